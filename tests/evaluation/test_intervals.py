"""Intervals of proportions cover the truth about 95 times in 100, with few photos too."""

import numpy as np
import pytest

from plumage.evaluation.intervals import f1_interval, wilson


def test_wilson_gives_the_published_intervals():
    low, high = wilson(np.array([8, 0, 5]), np.array([10, 10, 5]))
    np.testing.assert_allclose(low, [0.4901625, 0, 0.5655175], atol=1e-6)  # Newcombe 1998, method 3
    np.testing.assert_allclose(high, [0.9433178, 0.2775328, 1], atol=1e-6)


def test_without_photos_the_interval_is_0_to_1():
    low, high = wilson(np.array([0]), np.array([0]))
    assert (low[0], high[0]) == (0, 1)
    assert [end[0] for end in f1_interval(np.array([0]), np.array([0]))] == [0, 1]


@pytest.mark.parametrize(("photos", "share"), [(5, 0.8), (14, 0.95), (50, 0.9)])
def test_about_95_of_100_intervals_contain_the_true_share(photos, share):
    hits = np.random.default_rng(0).binomial(photos, share, 4000)
    low, high = wilson(hits, np.full(4000, photos))
    assert 0.92 <= ((low <= share) & (share <= high)).mean() <= 0.99


def test_about_95_of_100_intervals_contain_the_true_f1():
    # 20 photos of the class, each predicted as it with probability 0.9; 40 others, each with probability 0.05
    rng = np.random.default_rng(0)
    true_positives, false_positives = rng.binomial(20, 0.9, 4000), rng.binomial(40, 0.05, 4000)
    truth = 2 * 18 / (2 * 18 + 2 + 2)
    low, high = f1_interval(true_positives, 20 - true_positives + false_positives)
    assert 0.92 <= ((low <= truth) & (truth <= high)).mean() <= 0.99
