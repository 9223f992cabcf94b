"""Bootstrap intervals have their nominal coverage: about 95 of 100 contain the true value."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from plumage.evaluation.sample import Sample
from plumage.evaluation.summary import bootstrap

NAMES = ("accuracy", "balanced_accuracy", "top5_accuracy", "macro_f1")


def draw(rng: np.random.Generator, photos_per_class: int, classes: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and predictions: correct with probability `skill`, otherwise one of the next three classes."""
    labels = np.repeat(np.arange(classes), photos_per_class)
    wrong = rng.random(len(labels)) > skill
    return labels, (labels + wrong * rng.integers(1, 4, len(labels))) % classes


def intervals(labels: np.ndarray, predicted: np.ndarray, classes: int, seed: int = 0, resamples: int = 120):
    """Intervals where a correct prediction has a loss of 0.1, and a wrong one a loss of 2 and a label outside the top 5."""
    correct, rows = labels == predicted, np.arange(len(labels))
    probabilities = np.zeros((len(labels), classes))
    for offset in range(1, 6):
        probabilities[rows, (labels + offset) % classes] = np.where(correct, 0.01, 0.15)
    probabilities[rows, predicted] = 0.26
    probabilities[rows, labels] = np.exp(-np.where(correct, 0.1, 2.0))
    return bootstrap(Sample(labels, probabilities), resamples=resamples, seed=seed)


def macro_f1(labels: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    return f1_score(labels, predicted, labels=np.arange(classes), average="macro", zero_division=0)


def test_the_same_seed_gives_the_same_intervals_and_another_seed_different_ones():
    labels, predicted = draw(np.random.default_rng(0), 10, 20, 0.8)
    assert intervals(labels, predicted, 20, seed=1) == intervals(labels, predicted, 20, seed=1)
    assert intervals(labels, predicted, 20, seed=1) != intervals(labels, predicted, 20, seed=2)


@pytest.mark.parametrize(("photos_per_class", "classes"), [(40, 12), (5, 100), (1, 200)])
def test_intervals_lie_around_the_scores_even_with_a_single_photo_per_class(photos_per_class, classes):
    labels, predicted = draw(np.random.default_rng(0), photos_per_class, classes, 0.85)
    accuracy = float((labels == predicted).mean())
    # classes are of equal size, so balanced accuracy is accuracy
    scores = dict(zip(NAMES, (accuracy, accuracy, accuracy, macro_f1(labels, predicted, classes)), strict=True))
    found = intervals(labels, predicted, classes)
    for name, score in scores.items():
        low, high = found[name]
        assert 0 <= low < score < high <= 1


def test_the_accuracy_interval_is_as_wide_as_the_normal_approximation():
    labels, predicted = draw(np.random.default_rng(0), 100, 20, 0.9)
    low, high = intervals(labels, predicted, 20, resamples=2000)["accuracy"]
    share = (labels == predicted).mean()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / len(labels)), rel=0.08)


def test_about_95_of_100_intervals_contain_the_true_accuracies_and_loss():
    rng, skill = np.random.default_rng(0), 0.85
    covered = np.zeros(3)
    for seed in range(300):
        found = intervals(*draw(rng, 20, 10, skill), 10, seed)
        truths = {"accuracy": skill, "balanced_accuracy": skill, "loss": 0.1 * skill + 2 * (1 - skill)}
        covered += np.array([found[name][0] <= truth <= found[name][1] for name, truth in truths.items()])
    assert (covered >= 0.90 * 300).all() and (covered <= 0.99 * 300).all()


@pytest.mark.parametrize(("photos_per_class", "classes", "skill"), [(14, 100, 0.65), (14, 100, 0.95), (5, 100, 0.85)])
def test_about_95_of_100_intervals_contain_the_true_macro_f1_with_few_photos_in_many_classes(
    photos_per_class, classes, skill
):
    rng = np.random.default_rng(0)
    truth = macro_f1(*draw(rng, 5000, classes, skill), classes)
    covered = 0
    for seed in range(100):
        low, high = intervals(*draw(rng, photos_per_class, classes, skill), classes, seed)["macro_f1"]
        covered += low <= truth <= high
    assert covered >= 88
