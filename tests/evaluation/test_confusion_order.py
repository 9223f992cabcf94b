"""Classes that are confused become neighbours."""

import numpy as np
import pytest

from plumage.evaluation.confusion_order import confusion_order


def shuffled_groups(classes: int, group: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A confusion matrix whose classes are confused within groups only, in any order, and each class's group."""
    rng = np.random.default_rng(seed)
    group_of = rng.permutation(classes) // group
    confusion = np.where(group_of[:, None] == group_of, rng.integers(1, 4, (classes, classes)), 0)
    np.fill_diagonal(confusion, 20)
    return confusion, group_of


@pytest.mark.parametrize(("classes", "group"), [(12, 3), (400, 5), pytest.param(1000, 4, marks=pytest.mark.slow)])
def test_groups_of_confused_classes_lie_together_however_they_were_named(classes: int, group: int) -> None:
    confusion, group_of = shuffled_groups(classes, group, 0)
    order = confusion_order(confusion)
    assert sorted(order) == list(range(classes))
    changes = np.count_nonzero(np.diff(group_of[order]))
    assert changes == classes // group - 1


def test_within_a_chain_of_confusions_neighbours_stay_neighbours() -> None:
    names = np.random.default_rng(3).permutation(8)
    confusion = np.diag(np.full(8, 10))
    for first, second, errors in zip(names[:-1], names[1:], (4, 2, 5, 3, 4, 2, 5), strict=True):
        confusion[first, second] = errors
    order = confusion_order(confusion).tolist()
    assert order in (names.tolist(), names[::-1].tolist())


def test_a_count_is_measured_by_the_photos_of_its_class() -> None:
    confusion = np.array([[990, 10, 0, 0], [0, 10, 0, 0], [0, 0, 5, 5], [0, 0, 0, 10]])
    confusion[1, 2] = 1  # a tenth of a rare class weighs more than a hundredth of a common one
    order = confusion_order(confusion).tolist()
    assert order in ([0, 1, 2, 3], [3, 2, 1, 0])
    assert abs(order.index(2) - order.index(3)) == 1


@pytest.mark.parametrize("classes", [1, 2, 30])
def test_without_errors_the_classes_stay_in_their_order(classes: int) -> None:
    assert confusion_order(np.diag(np.arange(classes))).tolist() == list(range(classes))


def test_the_same_matrix_gives_the_same_order_and_lonely_classes_come_last() -> None:
    confusion, _ = shuffled_groups(60, 3, 1)
    lonely = np.zeros((62, 62), int)
    lonely[1:61, 1:61] = confusion
    order = confusion_order(lonely)
    assert order.tolist() == confusion_order(lonely.copy()).tolist()
    assert order[-2:].tolist() == [0, 61]
