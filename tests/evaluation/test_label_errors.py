"""Suspects are the photos with a wrong label; what can't be told is said, and no class is accused as a whole."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from plumage.evaluation.label_errors import (
    LabelErrors,
    Labelled,
    confident_errors,
    cross_validated,
    find_label_errors,
    label_errors_table,
    margins,
)  # fmt: skip

CLASSES = [f"bird {number}" for number in range(8)]


def photos(sizes: list[int], seed: int = 0, spread: float = 1.0, width: int = 16) -> Labelled:
    """Features of classes that overlap little; `sizes` photos each."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = 1.5 * rng.normal(size=(len(CLASSES), width))
    features = (centres[labels] + spread * rng.normal(size=(len(labels), width))).astype(np.float32)
    return Labelled([f"{number:04}.jpg" for number in range(len(labels))], features, labels, CLASSES[: len(sizes)])


def flip(clean: Labelled, share: float, seed: int) -> tuple[Labelled, np.ndarray]:
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(clean.labels)) < share * len(clean.labels)
    return clean._replace(labels=np.where(wrong, (clean.labels + 1) % len(clean.classes), clean.labels)), wrong


@pytest.fixture(scope="module")
def noisy() -> tuple[Labelled, np.ndarray, LabelErrors]:
    given, wrong = flip(photos([40] * 8), 0.08, seed=1)
    return given, wrong, find_label_errors(given)


def test_flipped_labels_are_found_with_the_right_class(noisy) -> None:
    given, wrong, found = noisy
    rows = [given.keys.index(each.key) for each in found.suspects]
    assert wrong[rows].mean() > 0.8 and wrong[rows].sum() > 0.6 * wrong.sum()
    clean = photos([40] * 8)
    assert all(
        each.suggested == CLASSES[clean.labels[row]]
        for each, row in zip(found.suspects, rows, strict=True)
        if wrong[row]
    )
    assert all(each.label == CLASSES[given.labels[row]] for each, row in zip(found.suspects, rows, strict=True))
    probabilities = cross_validated(given, 0)
    others = probabilities.copy()
    others[np.arange(len(wrong)), given.labels] = -1
    assert roc_auc_score(wrong, margins(probabilities, given.labels, others.argmax(1))) > 0.95


def test_the_most_likely_errors_come_first_and_repeat_exactly(noisy) -> None:
    given, _, found = noisy
    scores = [each.score for each in found.suspects]
    assert scores == sorted(scores, reverse=True) and 0.5 < min(scores) <= max(scores) <= 1
    assert find_label_errors(given) == found


def test_no_photo_of_a_tiny_class_is_accused_and_the_class_is_named() -> None:
    found = find_label_errors(photos([40, 40, 1, 2, 3, 4]))
    assert found.too_small == CLASSES[2:6]
    assert not {each.label for each in found.suspects} & set(CLASSES[2:6])
    assert any("not judged (fewer than 5 photos): bird 2, bird 3" in line for line in found.lines())


def test_copies_of_one_photo_do_not_make_a_class_large() -> None:
    few = photos([40, 40, 6])
    assert find_label_errors(few).too_small == []
    groups = np.arange(86)
    groups[80:83] = 80
    assert find_label_errors(few._replace(groups=groups)).too_small == [CLASSES[2]]


def test_a_class_that_is_not_told_apart_is_named_instead_of_accused() -> None:
    clean = photos([60, 60, 12])
    features = clean.features.copy()
    features[120:] = photos([60, 60, 12], seed=0, spread=1.1).features[:12]  # look like the first class
    found = find_label_errors(clean._replace(features=features))
    assert CLASSES[2] in found.not_told_apart
    assert not [each for each in found.suspects if each.label == CLASSES[2]]


@pytest.mark.parametrize("sizes", [[1, 1], [3, 3, 3], [2, 40], [4, 4, 30]])
def test_with_too_few_classes_to_judge_the_list_is_empty(sizes: list[int]) -> None:
    found = find_label_errors(photos(sizes))
    assert found.suspects == [] and len(found.too_small) >= len(sizes) - 1


def test_near_duplicates_are_predicted_by_the_same_probe_which_saw_none_of_them() -> None:
    clean = photos([30, 30, 30])
    features = clean.features.copy()
    features[:6] = features[0]
    copies = clean._replace(features=features)
    one_group = np.maximum(np.arange(90), 5)
    apart, together = (cross_validated(copies._replace(groups=groups), 0)[:6] for groups in (None, one_group))
    assert (together == together[0]).all() and not (apart == apart[0]).all()


def test_thresholds_are_the_mean_self_confidence_of_each_class() -> None:
    """Class 0 has the threshold 0.8, class 1 has 0.6 (worked by hand)."""
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.35, 0.65], [0.1, 0.9], [0.75, 0.25], [0.85, 0.15]])
    labels = np.array([0, 0, 1, 1, 1, 1])
    likely, suspect = confident_errors(probabilities, labels)
    assert suspect.tolist() == [False, False, False, False, False, True] and likely[5] == 0
    assert margins(probabilities[5:], labels[5:], likely[5:]).tolist() == pytest.approx([0.85])


def test_without_suspects_the_table_has_its_columns() -> None:
    table = label_errors_table([], None, {})  # type: ignore[arg-type]
    assert list(table.columns) == ["key", "label", "suggested", "score", "split"] and table.empty
