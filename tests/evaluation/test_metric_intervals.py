"""The intervals in metrics.json contain the true values in 93 of 100 evaluations or more, with 10 photos and with 1,000.

benchmarks/coverage.py has more cases, and what other intervals would do.
"""

import numpy as np
import pytest
from scipy.special import softmax

from plumage.evaluation.metric_table import METRICS
from plumage.evaluation.sample import Sample
from plumage.evaluation.summary import summary

CLASSES = 6
INTERVALS = [metric for metric in METRICS if metric.interval and metric.name != "top5_accuracy"]
SKILLS = {0.5: 1.15, 0.9: 2.71, 0.99: 4.0}
"""The accuracy that each distance of the class means gives."""


def draw(rng: np.random.Generator, labels: np.ndarray, skill: float, sharpness: float = 1.0) -> Sample:
    """A classifier of points around class means; with a `sharpness` over 1 it is too certain."""
    points = rng.normal(size=(len(labels), CLASSES)) + skill * np.eye(CLASSES)[labels]
    return Sample(labels, softmax(sharpness * skill * points, axis=1).astype(np.float32))


@pytest.mark.parametrize("photos", [10, 24, 100, 1000])
@pytest.mark.parametrize("accuracy", SKILLS)
def test_at_least_93_of_100_intervals_contain_the_true_value(photos, accuracy):
    rng, evaluations = np.random.default_rng(0), 100
    labels, skill, sharpness = np.arange(photos) % CLASSES, SKILLS[accuracy], 1.5
    many = draw(rng, np.tile(labels, 120_000 // photos), skill, sharpness)
    truths = {metric.name: metric.score(many) for metric in INTERVALS}
    assert truths["accuracy"] == pytest.approx(accuracy, abs=0.005)
    covered = dict.fromkeys(truths, 0)
    for seed in range(evaluations):
        sample = draw(rng, labels, skill, sharpness)
        for metric in INTERVALS:
            low, high = metric.interval(sample, 100, seed)
            covered[metric.name] += low <= truths[metric.name] <= high
    assert min(covered.values()) >= 0.93 * evaluations, covered


@pytest.mark.parametrize("photos", [1, 2, 24])
def test_an_interval_has_width_where_all_photos_are_alike(photos):
    labels = np.arange(photos) % CLASSES
    for shift in (0, 1):  # all correct, all wrong
        sample = Sample((labels + shift) % CLASSES, (0.9 * np.eye(CLASSES) + 0.1 / CLASSES)[labels])
        found = summary(sample, resamples=200)
        for metric in INTERVALS:
            interval = found[f"{metric.name}_ci95"]
            assert interval["low"] <= found[metric.name] <= interval["high"]
            assert interval["high"] - interval["low"] > 0.1


def test_all_shares_of_a_page_have_one_kind_of_interval():
    labels = np.arange(24) % CLASSES
    found = summary(Sample(labels, np.eye(CLASSES, dtype=np.float32)[labels]), resamples=100)
    exact = {"low": 0.857526, "high": 1.0}  # Clopper & Pearson 1934, 24 of 24
    for name in ("accuracy", "balanced_accuracy", "top5_accuracy", "macro_f1"):
        assert found[f"{name}_ci95"] == exact


def test_near_duplicates_count_as_one_photo():
    rng = np.random.default_rng(0)
    once = draw(rng, np.arange(60) % CLASSES, 2.0)
    labels, probabilities = np.tile(once.labels, 5), np.tile(once.probabilities, (5, 1))
    copies = Sample(labels, probabilities, groups=np.tile(np.arange(60), 5))
    for metric in INTERVALS:
        alone, together = (np.array(metric.interval(sample, 4000, 0)) for sample in (once, copies))
        assert np.diff(together) == pytest.approx(np.diff(alone), rel=0.15)
        assert np.diff(metric.interval(Sample(labels, probabilities), 4000, 0)) < 0.6 * np.diff(alone)


def test_top_5_of_5_classes_is_certain():
    found = summary(Sample(np.arange(5), np.full((5, 5), 0.2)), resamples=100)
    assert found["top5_accuracy_ci95"] == {"low": 1.0, "high": 1.0}
