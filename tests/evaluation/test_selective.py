"""Selective prediction keeps the accuracy that its threshold was chosen for."""

import numpy as np
import pytest
from scipy.special import softmax
from support import calibrated_logits

from plumage.evaluation.sample import Sample
from plumage.evaluation.selective import coverage_curve, selective_metrics, threshold_for

PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3], [0.6, 0.4]])
FIVE = Sample(np.array([0, 0, 1, 0, 0]), PROBABILITIES)


def test_accuracy_against_coverage_by_hand():
    curve = coverage_curve(FIVE)
    np.testing.assert_allclose(curve.threshold, [0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(curve.coverage, [0.2, 0.4, 0.8, 1.0], err_msg="equal confidences come together")
    np.testing.assert_allclose(curve.accuracy, [1, 1, 0.75, 0.8])


def test_the_threshold_is_the_lowest_that_reaches_the_accuracy():
    curve = coverage_curve(FIVE)
    assert threshold_for(1.0, curve) == 0.8
    assert threshold_for(0.8, curve) == 0.6
    assert threshold_for(1.0, coverage_curve(Sample(1 - FIVE.labels, PROBABILITIES))) is None


def test_selective_metrics_give_coverage_and_accuracy_at_the_threshold():
    found = selective_metrics(FIVE, 0.8, 0.95)
    assert found.pop("accuracy_ci95") == {"low": 0.158114, "high": 1.0}, "2 of 2, Clopper & Pearson 1934"
    assert found.pop("coverage_ci95") == {"low": 0.052745, "high": 0.853367}, "2 of 5"
    assert found == {"target_accuracy": 0.95, "threshold": 0.8, "coverage": 0.4, "accuracy": 1.0, "reached": 1}
    never = selective_metrics(FIVE, None, 0.95)
    assert (never["threshold"], never["coverage"], never["accuracy"], never["reached"]) == (1, 0, 0, 0)


def test_a_threshold_chosen_on_val_keeps_its_accuracy_on_other_photos():
    logits, labels = calibrated_logits(40_000, 10)
    probabilities = softmax(logits, axis=1)
    val, test = (Sample(labels[rows], probabilities[rows]) for rows in (slice(0, 20_000), slice(20_000, None)))
    threshold = threshold_for(0.95, coverage_curve(val))
    found = selective_metrics(test, threshold, 0.95)
    assert found["accuracy"] == pytest.approx(0.95, abs=0.01)
    assert 0.1 < found["coverage"] < 0.9
