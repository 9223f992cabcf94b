"""A temperature that makes probabilities true, and a threshold that keeps its word."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve

from plumage.evaluation.calibration import adaptive_ece, brier_score, coverage_curve, selective_metrics, threshold_for
from plumage.training.temperature import fit_temperature


def drawn(photos: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are true: each label is drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(photos, classes))
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (rng.random((photos, 1)) > cumulated).sum(axis=1).clip(0, classes - 1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_what_made_logits_too_sure_or_too_shy(factor):
    logits, labels = drawn(20_000, 8)
    assert fit_temperature((factor * logits).astype(np.float32), labels) == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_has_a_lower_loss():
    logits, labels = drawn(500, 6)
    best = fit_temperature(2 * logits, labels)

    def loss(temperature: float) -> float:
        return -log_softmax(2 * logits / temperature, axis=1)[np.arange(500), labels].mean()

    assert all(loss(best) <= loss(best * factor) for factor in (0.9, 0.99, 1.01, 1.1))


def test_where_all_are_right_or_there_is_no_photo_the_temperature_is_still_a_number():
    logits = np.eye(4, dtype=np.float32)
    assert 0.05 <= fit_temperature(logits, np.arange(4)) < 0.06
    assert 19 < fit_temperature(logits, (np.arange(4) + 1) % 4) <= 20
    assert fit_temperature(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)) == 1


def test_bins_of_equally_many_photos_are_scikit_learns(guesses):
    probabilities, labels = guesses(600, 9)
    right = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=10, strategy="quantile")
    assert adaptive_ece(probabilities, labels, 10) == pytest.approx(np.abs(accuracy - confidence).mean(), abs=2e-3)


def test_photos_that_are_equally_sure_are_judged_together_whatever_their_order():
    probabilities, labels = np.full((40, 4), 0.25), np.repeat(np.arange(4), 10)
    assert adaptive_ece(probabilities, labels) == 0, "a quarter of them is right"


def test_the_brier_score_of_a_coin_and_of_a_certainty():
    assert brier_score(np.array([[0.5, 0.5]]), np.array([0])) == 0.5
    assert brier_score(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1])) == 1.0


FIVE = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3], [0.6, 0.4]])
LABELS = np.array([0, 0, 1, 0, 0])


def test_coverage_against_accuracy_by_hand():
    curve = coverage_curve(FIVE, LABELS)
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(curve.coverage, [0.2, 0.4, 0.8, 1.0], err_msg="equals come together")
    np.testing.assert_allclose(curve.accuracy, [1, 1, 0.75, 0.8])


def test_the_threshold_is_the_lowest_that_keeps_the_accuracy():
    curve = coverage_curve(FIVE, LABELS)
    assert threshold_for(1.0, curve) == 0.8
    assert threshold_for(0.8, curve) == 0.6
    assert threshold_for(1.0, coverage_curve(FIVE, 1 - LABELS)) is None


def test_a_model_that_abstains_says_how_often_it_answers_and_how_well():
    assert selective_metrics(FIVE, LABELS, 0.8, 0.95) == {
        "target_accuracy": 0.95, "threshold": 0.8, "coverage": 0.4, "accuracy": 1.0, "reached": 1,
    }  # fmt: skip
    never = selective_metrics(FIVE, LABELS, None, 0.95)
    assert (never["coverage"], never["accuracy"], never["reached"]) == (0, 0, 0)


def test_the_accuracy_that_val_promises_is_kept_on_other_photos():
    logits, labels = drawn(40_000, 10)
    probabilities = softmax(logits, axis=1)
    val, test = slice(0, 20_000), slice(20_000, None)
    threshold = threshold_for(0.95, coverage_curve(probabilities[val], labels[val]))
    said = selective_metrics(probabilities[test], labels[test], threshold, 0.95)
    assert said["accuracy"] == pytest.approx(0.95, abs=0.01)
    assert 0.1 < said["coverage"] < 0.9
