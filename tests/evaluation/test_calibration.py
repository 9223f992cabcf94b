"""Calibration errors agree with scikit-learn and with results by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from plumage.evaluation.calibration import adaptive_ece, reliability
from plumage.evaluation.sample import Sample


def test_bins_with_equally_many_photos_agree_with_scikit_learn(make_sample):
    sample = make_sample(600, 9, bins=10)
    accuracy, confidence = calibration_curve(sample.correct, sample.confidence, n_bins=10, strategy="quantile")
    assert adaptive_ece(sample) == pytest.approx(np.abs(accuracy - confidence).mean(), abs=2e-3)


def test_photos_of_equal_confidence_share_a_bin_whatever_their_order():
    sample = Sample(np.repeat(np.arange(4), 10), np.full((40, 4), 0.25))
    assert adaptive_ece(sample) == 0, "a quarter of them is correct"


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_and_one_just_over_1_to_the_last():
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [1.0000001, 0.0], [0.51, 0.49]])
    bins = reliability(Sample(np.zeros(4, dtype=np.int64), probabilities, bins=4))
    np.testing.assert_array_equal(bins.count, [0, 1, 2, 1])
