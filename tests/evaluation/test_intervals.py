"""Intervals of few photos hold the truth about 95 times of 100, and never claim certainty."""

import numpy as np
import pytest

from plumage.evaluation.intervals import f1_interval, wilson


def test_wilson_is_as_in_the_book():
    low, high = wilson(np.array([8, 0, 5]), np.array([10, 10, 5]))
    np.testing.assert_allclose(low, [0.4901625, 0, 0.5655175], atol=1e-6)  # Newcombe 1998, method 3
    np.testing.assert_allclose(high, [0.9433178, 0.2775328, 1], atol=1e-6)


def test_of_no_photos_nothing_is_known():
    low, high = wilson(np.array([0]), np.array([0]))
    assert (low[0], high[0]) == (0, 1)
    assert [end[0] for end in f1_interval(np.array([0]), np.array([0]))] == [0, 1]


@pytest.mark.parametrize(("photos", "share"), [(5, 0.8), (14, 0.95), (50, 0.9)])
def test_about_95_of_100_intervals_of_a_share_hold_it(photos, share):
    hits = np.random.default_rng(0).binomial(photos, share, 4000)
    low, high = wilson(hits, np.full(4000, photos))
    assert 0.92 <= ((low <= share) & (share <= high)).mean() <= 0.99


def test_about_95_of_100_intervals_of_an_f1_hold_it():
    # each photo of the class is found with chance 0.9, and each of 40 others is taken for it with chance 0.05
    rng = np.random.default_rng(0)
    found, false = rng.binomial(20, 0.9, 4000), rng.binomial(40, 0.05, 4000)
    truth = 2 * 18 / (2 * 18 + 2 + 2)
    low, high = f1_interval(found, 20 - found + false)
    assert 0.92 <= ((low <= truth) & (truth <= high)).mean() <= 0.99
