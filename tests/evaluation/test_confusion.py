"""Which classes are confused, and an order that makes them neighbours."""

import numpy as np
import pytest

from plumage.evaluation.confusion import confused_pairs, confusion_order, most_confused


def test_the_most_frequent_confused_pairs_come_first() -> None:
    confusion = np.array([[5, 2, 0], [1, 4, 2], [0, 3, 6]])
    assert confused_pairs(confusion, 3) == [(2, 1, 3), (0, 1, 2), (1, 2, 2)]


def test_the_most_confused_classes_are_named_unless_they_are_too_close_to_a_more_confused_one() -> None:
    confusion = np.diag(np.full(400, 9))
    confusion[200, 300], confusion[202, 50], confusion[210, 301] = 3, 2, 1
    assert most_confused(confusion, 60, gap=5.0) == ([200, 210], [300, 50])
    assert most_confused(confusion, 1, gap=5.0) == ([200], [300])
    assert most_confused(np.eye(400, dtype=np.int64), 60, gap=5.0) == ([], [])


def shuffled_groups(classes: int, group: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A confusion matrix of shuffled classes, confused within groups only, and the group of each class."""
    rng = np.random.default_rng(seed)
    group_of = rng.permutation(classes) // group
    confusion = np.where(group_of[:, None] == group_of, rng.integers(1, 4, (classes, classes)), 0)
    np.fill_diagonal(confusion, 20)
    return confusion, group_of


@pytest.mark.parametrize(("classes", "group"), [(12, 3), (400, 5), pytest.param(1000, 4, marks=pytest.mark.slow)])
def test_groups_of_confused_classes_are_contiguous_whatever_their_names(classes: int, group: int) -> None:
    confusion, group_of = shuffled_groups(classes, group, 0)
    order = confusion_order(confusion)
    assert sorted(order) == list(range(classes))
    changes = np.count_nonzero(np.diff(group_of[order]))
    assert changes == classes // group - 1


def test_a_chain_of_confusions_keeps_its_order() -> None:
    names = np.random.default_rng(3).permutation(8)
    confusion = np.diag(np.full(8, 10))
    for first, second, errors in zip(names[:-1], names[1:], (4, 2, 5, 3, 4, 2, 5), strict=True):
        confusion[first, second] = errors
    order = confusion_order(confusion).tolist()
    assert order in (names.tolist(), names[::-1].tolist())


def test_errors_count_relative_to_the_photos_of_their_class() -> None:
    confusion = np.array([[990, 10, 0, 0], [0, 10, 0, 0], [0, 0, 5, 5], [0, 0, 0, 10]])
    confusion[1, 2] = 1  # a tenth of a rare class weighs more than a hundredth of a common one
    order = confusion_order(confusion).tolist()
    assert order in ([0, 1, 2, 3], [3, 2, 1, 0])
    assert abs(order.index(2) - order.index(3)) == 1


@pytest.mark.parametrize("classes", [1, 2, 30])
def test_without_errors_the_order_is_the_classes_own(classes: int) -> None:
    assert confusion_order(np.diag(np.arange(classes))).tolist() == list(range(classes))


def test_the_order_is_reproducible_and_unconfused_classes_come_last() -> None:
    confusion, _ = shuffled_groups(60, 3, 1)
    unconfused = np.zeros((62, 62), int)
    unconfused[1:61, 1:61] = confusion
    order = confusion_order(unconfused)
    assert order.tolist() == confusion_order(unconfused.copy()).tolist()
    assert order[-2:].tolist() == [0, 61]
