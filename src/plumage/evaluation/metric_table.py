"""The table of metrics: one row per metric drives reports/metrics.json, the intervals, the model card and the report.

To add a metric, add a row to METRICS and a test. Scores come from scikit-learn, intervals from `plumage.evaluation.metric_intervals`. A
ratio with denominator 0 is 0 (scikit-learn's `zero_division=0`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumage.common import figures
from plumage.evaluation.calibration import adaptive_ece, reliability
from plumage.evaluation.metric_intervals import (
    accuracy_interval,
    balanced_accuracy_interval,
    log_loss_interval,
    macro_f1_interval,
    top5_interval,
)
from plumage.evaluation.sample import Sample


@dataclass(frozen=True)
class Metric:
    """One row of METRICS."""

    name: str  # key in reports/metrics.json, under `test`
    label: str  # what people read, in lower case
    score: Callable[[Sample], float]
    interval: Callable[[Sample, int, int], tuple[float, float]] | None = None  # of a sample, resamples and a seed
    share: bool = False  # a share of the photos, which people read as a percentage
    calibration: bool = False  # it depends on the temperature, and is computed without one too, as `test.uncalibrated`

    def written(self, value: float, photos: int) -> str:
        """A value of this metric on so many photos, or an end of its interval, as people read it."""
        return figures.share(value, photos) if self.share else figures.score(value, photos)


def _sklearn() -> Any:
    from sklearn import metrics  # late: importing it takes 0.8 s, which names and labels don't need

    return metrics


def _accuracy(sample: Sample) -> float:
    return float(_sklearn().accuracy_score(sample.labels, sample.predicted))


def _balanced_accuracy(sample: Sample) -> float:
    """`balanced_accuracy_score` without its warning about predicted classes that have no photo."""
    present = np.unique(sample.labels)
    return float(_sklearn().recall_score(sample.labels, sample.predicted, labels=present, average="macro"))


def _top5_accuracy(sample: Sample) -> float:
    """scikit-learn prefers the last of equally probable classes, so it gets the classes in reverse to prefer the first."""
    count = sample.num_classes
    if count <= 5:
        return 1.0
    labels, scores = count - 1 - sample.labels, sample.probabilities[:, ::-1]
    return float(_sklearn().top_k_accuracy_score(labels, scores, k=5, labels=np.arange(count)))


def _macro_f1(sample: Sample) -> float:
    """Mean over all C classes, those without photos included."""
    classes = np.arange(sample.num_classes)
    return float(_sklearn().f1_score(sample.labels, sample.predicted, labels=classes, average="macro", zero_division=0))


def _log_loss(sample: Sample) -> float:
    """In nats. Binary form, the event being the photo's label: the C-column form expects rows that sum to 1 within 1e-8."""
    return float(_sklearn().log_loss(np.ones(len(sample)), sample.label_probabilities, labels=[0, 1]))


def _brier_score(sample: Sample) -> float:
    """Squared distance of the probabilities from the truth, summed over the classes: 0 to 2 (Brier 1950)."""
    if sample.num_classes == 1:
        return 0.0
    exact = sample.probabilities / sample.probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    classes = np.arange(sample.num_classes)
    return float(_sklearn().brier_score_loss(sample.labels, exact, labels=classes, scale_by_half=False))


METRICS = (
    Metric(
        "accuracy", "accuracy", _accuracy,
        lambda sample, *_: accuracy_interval(sample), share=True,
    ),
    Metric(
        "balanced_accuracy", "balanced accuracy", _balanced_accuracy,
        lambda sample, *_: balanced_accuracy_interval(sample), share=True,
    ),
    Metric("top5_accuracy", "top-5 accuracy", _top5_accuracy, lambda sample, *_: top5_interval(sample), share=True),
    Metric("macro_f1", "macro F1", _macro_f1, lambda sample, *_: macro_f1_interval(sample)),
    Metric(
        "loss", "log loss, in nats", _log_loss,
        lambda sample, resamples, seed: log_loss_interval(sample, resamples=resamples, seed=seed), calibration=True,
    ),
    Metric("ece", "expected calibration error", lambda sample: reliability(sample).ece, calibration=True),
    Metric("adaptive_ece", "adaptive ECE", adaptive_ece, calibration=True),
    Metric("brier", "Brier score", _brier_score, calibration=True),
)  # fmt: skip
HEADLINES = tuple(metric for metric in METRICS if metric.interval or not metric.calibration)
"""Metrics of the predicted classes, and the log loss: the figures at the top of the report and of the model card."""
CALIBRATION = tuple(metric for metric in METRICS if metric.calibration)
"""Metrics reported both before and after temperature scaling."""
