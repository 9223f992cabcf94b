"""Intervals of shares and means cover the truth at least 95 times in 100, with few photos and with near-duplicates too."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from plumage.evaluation.intervals import effective_trials, exact, f1_interval, mean_interval, share_interval


def one(hits: int, photos: int) -> tuple[float, float]:
    """The interval of `hits` correct photos of so many."""
    return share_interval(np.arange(photos) < hits, np.arange(photos))


def test_exact_gives_the_published_intervals():
    low, high = exact(np.array([81, 15, 0, 1]), np.array([263, 148, 20, 29]))
    np.testing.assert_allclose(low, [0.2527, 0.0578, 0, 0.0009], atol=5e-5)  # Newcombe 1998, method 5
    np.testing.assert_allclose(high, [0.3676, 0.1617, 0.1684, 0.1776], atol=5e-5)


@pytest.mark.parametrize(("hits", "photos"), [(24, 24), (23, 24), (0, 24), (1, 1), (0, 1), (999, 1000)])
def test_an_interval_of_few_photos_or_of_all_alike_is_scipys_and_has_width(hits, photos):
    interval = binomtest(hits, photos).proportion_ci(method="exact")
    assert one(hits, photos) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert one(hits, photos)[1] - one(hits, photos)[0] > 1e-3


def test_without_photos_the_interval_is_0_to_1():
    assert one(0, 0) == (0, 1)
    assert [end[0] for end in f1_interval(np.array([0]), np.array([0]))] == [0, 1]


@pytest.mark.parametrize("photos", [1, 10, 24, 100, 1000])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99])
def test_at_least_95_of_100_intervals_contain_the_true_share(photos, share):
    hits = np.arange(photos + 1)
    low, high = exact(hits, np.full(photos + 1, photos))
    assert binom.pmf(hits, photos, share)[(low <= share) & (share <= high)].sum() >= 0.95


def test_about_95_of_100_intervals_contain_the_true_f1():
    # 20 photos of the class, each predicted as it with probability 0.9; 40 others, each with probability 0.05
    rng = np.random.default_rng(0)
    true_positives, false_positives = rng.binomial(20, 0.9, 4000), rng.binomial(40, 0.05, 4000)
    truth = 2 * 18 / (2 * 18 + 2 + 2)
    low, high = f1_interval(true_positives, 20 - true_positives + false_positives)
    assert ((low <= truth) & (truth <= high)).mean() >= 0.93


def test_copies_of_photos_tell_no_more_than_the_photos():
    hits = np.random.default_rng(0).random(30) < 0.8
    groups = np.arange(30)
    assert share_interval(np.tile(hits, 4), np.tile(groups, 4)) == pytest.approx(share_interval(hits, groups))
    np.testing.assert_allclose(effective_trials(np.repeat([0, 1], 6), np.arange(12) // 3, 3), [2, 2, 0])


@pytest.mark.parametrize("agreement", [1.0, 0.5])
def test_95_of_100_intervals_contain_the_true_share_of_photos_in_groups(agreement):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(500):
        groups = np.repeat(np.arange(40), rng.integers(1, 6, 40))
        alike, own = rng.random(40) < 0.9, rng.random(len(groups)) < 0.9
        low, high = share_interval(np.where(rng.random(len(groups)) < agreement, alike[groups], own), groups)
        covered += low <= 0.9 <= high
    assert covered >= 0.93 * 500


def test_the_interval_of_a_mean_of_zeros_and_ones_is_the_exact_one():
    for hits in (0, 12, 24):
        values = (np.arange(24) < hits).astype(float)
        found = mean_interval(values, np.arange(24), 1.0, resamples=20_000, seed=0)
        assert found == pytest.approx(one(hits, 24), abs=0.005)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    def interval(seed: int) -> tuple[float, float]:
        return mean_interval(np.arange(50.0), np.arange(50), 60, resamples=200, seed=seed)

    assert interval(0) == interval(0) != interval(1)
