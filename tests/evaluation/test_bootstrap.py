"""Intervals that mean what they say: about 95 of 100 data sets' intervals hold the truth."""

import numpy as np
import pytest

from plumage.evaluation.bootstrap import bootstrap
from plumage.evaluation.metrics import class_scores, confusion_matrix

NAMES = ("accuracy", "balanced_accuracy", "top5_accuracy", "macro_f1")


def draw(rng: np.random.Generator, photos_a_class: int, classes: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions that are right with chance `skill`, else one of the next three classes."""
    labels = np.repeat(np.arange(classes), photos_a_class)
    wrong = rng.random(len(labels)) > skill
    return labels, (labels + wrong * rng.integers(1, 4, len(labels))) % classes


def intervals(labels: np.ndarray, predicted: np.ndarray, classes: int, seed: int = 0, resamples: int = 120):
    right = labels == predicted
    losses = np.where(right, 0.1, 2.0)
    figures = bootstrap(labels, predicted, right, losses, classes, resamples=resamples, seed=seed)
    return {name: (low, high) for name, (_, low, high) in figures.items()}


def macro_f1(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    return float(class_scores(confusion_matrix(labels, predicted, classes)).f1.mean())


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others():
    labels, predicted = draw(np.random.default_rng(0), 10, 20, 0.8)
    assert intervals(labels, predicted, 20, seed=1) == intervals(labels, predicted, 20, seed=1)
    assert intervals(labels, predicted, 20, seed=1) != intervals(labels, predicted, 20, seed=2)


@pytest.mark.parametrize(("photos_a_class", "classes"), [(40, 12), (5, 100), (1, 200)])
def test_intervals_lie_around_the_figures_also_with_a_single_photo_a_class(photos_a_class, classes):
    labels, predicted = draw(np.random.default_rng(0), photos_a_class, classes, 0.85)
    accuracy = float((labels == predicted).mean())
    # with as many photos of each class, balanced accuracy is accuracy
    figures = dict(zip(NAMES, (accuracy, accuracy, accuracy, macro_f1(labels, predicted, classes)), strict=True))
    found = intervals(labels, predicted, classes)
    for name, figure in figures.items():
        low, high = found[name]
        assert 0 <= low < figure < high <= 1


def test_the_accuracy_interval_is_as_wide_as_the_normal_approximation():
    labels, predicted = draw(np.random.default_rng(0), 100, 20, 0.9)
    low, high = intervals(labels, predicted, 20, resamples=2000)["accuracy"]
    share = (labels == predicted).mean()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / len(labels)), rel=0.08)


def test_about_95_of_100_intervals_hold_the_true_accuracies_and_loss():
    rng, skill = np.random.default_rng(0), 0.85
    held = np.zeros(3)
    for seed in range(300):
        found = intervals(*draw(rng, 20, 10, skill), 10, seed)
        truths = {"accuracy": skill, "balanced_accuracy": skill, "loss": 0.1 * skill + 2 * (1 - skill)}
        held += np.array([found[name][0] <= truth <= found[name][1] for name, truth in truths.items()])
    assert (held >= 0.90 * 300).all() and (held <= 0.99 * 300).all()


@pytest.mark.parametrize(("photos_a_class", "classes", "skill"), [(14, 100, 0.65), (14, 100, 0.95), (5, 100, 0.85)])
def test_about_95_of_100_intervals_hold_the_true_macro_f1_with_few_photos_of_many_classes(
    photos_a_class, classes, skill
):
    rng = np.random.default_rng(0)
    truth = macro_f1(*draw(rng, 5000, classes, skill), classes)
    held = 0
    for seed in range(100):
        low, high = intervals(*draw(rng, photos_a_class, classes, skill), classes, seed)["macro_f1"]
        held += low <= truth <= high
    assert held >= 88
