"""Every row of the table of metrics: correct by hand, and within its bounds and its interval."""

import warnings

import numpy as np
import pytest

from plumage.evaluation.metric_table import CALIBRATION, HEADLINES, METRICS
from plumage.evaluation.sample import Sample

SCORES = {metric.name: metric.score for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 40])
def test_a_score_is_within_its_bounds_and_its_interval_without_warnings(make_sample, metric, num_classes):
    for skill in (-3.0, 0.0, 2.0, 30.0):
        sample = make_sample(60, num_classes, skill=skill)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            score = metric.score(sample)
            low, high = metric.interval(sample, 100, 0) if metric.interval else (score, score)
        assert 0 <= low <= score + 1e-12 and score - 1e-12 <= high <= {"loss": 16, "brier": 2}.get(metric.name, 1)


def test_every_metric_is_shown_in_the_report_and_the_model_card():
    assert set(HEADLINES) | set(CALIBRATION) == set(METRICS)
    assert len({metric.name for metric in METRICS}) == len({metric.label for metric in METRICS}) == len(METRICS)


def test_the_first_of_equally_probable_classes_counts():
    sample = Sample(np.array([0, 4, 5, 7]), np.full((4, 8), 1 / 8))
    assert SCORES["accuracy"](sample) == 0.25
    assert SCORES["top5_accuracy"](sample) == 0.5, "classes 0 to 4"


def test_the_brier_score_of_a_coin_and_of_a_certainty():
    brier = SCORES["brier"]
    assert brier(Sample(np.array([0]), np.array([[0.5, 0.5]]))) == 0.5
    assert brier(Sample(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]))) == 1.0


def test_a_single_class_is_always_predicted():
    sample = Sample(np.zeros(3, np.int64), np.ones((3, 1), np.float32))
    perfect = {"accuracy": 1, "balanced_accuracy": 1, "top5_accuracy": 1, "macro_f1": 1}
    perfect |= {"loss": 0, "ece": 0, "adaptive_ece": 0, "brier": 0}
    assert {name: SCORES[name](sample) for name in perfect} == pytest.approx(perfect, abs=1e-12)
