"""The table of metrics: one row per metric drives reports/metrics.json, the intervals, the model card and the report.

To add a metric, add a row to METRICS and a test. Scores come from scikit-learn. Its functions are 50 times too slow for a bootstrap, so a
metric with an interval also has a function of a `Resample`'s counts; tests/evaluation/test_metric_table.py checks that both agree. A
ratio with denominator 0 is 0 (scikit-learn's `zero_division=0`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn import metrics as sklearn_metrics

from plumage.evaluation.calibration import adaptive_ece, reliability
from plumage.evaluation.sample import Resample, Sample


@dataclass(frozen=True)
class Metric:
    """One row of METRICS."""

    name: str  # key in reports/metrics.json, under `test`
    label: str  # what people read, in lower case
    score: Callable[[Sample], float]
    resample_score: Callable[[Resample], float] | None = (
        None  # the same from counts, for the 95% interval, if it has one
    )
    bounds: tuple[float, float] = (0.0, 1.0)  # lowest and highest possible value: an interval is clipped to them
    format: str = ".3f"  # how the report writes it
    calibration: bool = False  # it depends on the temperature, and is computed without one too, as `test.uncalibrated`


def _balanced_accuracy(sample: Sample) -> float:
    """`balanced_accuracy_score` without its warning about predicted classes that have no photo."""
    present = np.unique(sample.labels)
    return sklearn_metrics.recall_score(sample.labels, sample.predicted, labels=present, average="macro")


def _resampled_balanced_accuracy(resample: Resample) -> float:
    present = resample.support > 0
    return (resample.true_positives[present] / resample.support[present]).mean()


def _top5_accuracy(sample: Sample) -> float:
    """scikit-learn prefers the last of equally probable classes, so it gets the classes in reverse to prefer the first."""
    count = sample.num_classes
    if count <= 5:
        return 1.0
    labels, scores = count - 1 - sample.labels, sample.probabilities[:, ::-1]
    return sklearn_metrics.top_k_accuracy_score(labels, scores, k=5, labels=np.arange(count))


def _macro_f1(sample: Sample) -> float:
    """Mean over all C classes, those without photos included."""
    classes = np.arange(sample.num_classes)
    return sklearn_metrics.f1_score(sample.labels, sample.predicted, labels=classes, average="macro", zero_division=0)


def _resampled_macro_f1(resample: Resample) -> float:
    denominator = np.maximum(resample.support + resample.num_predicted, 1)
    return (2 * resample.true_positives / denominator).mean()


def _log_loss(sample: Sample) -> float:
    """In nats. Binary form, the event being the photo's label: the C-column form expects rows that sum to 1 within 1e-8."""
    return sklearn_metrics.log_loss(np.ones(len(sample)), sample.label_probabilities, labels=[0, 1])


def _brier_score(sample: Sample) -> float:
    """Squared distance of the probabilities from the truth, summed over the classes: 0 to 2 (Brier 1950)."""
    if sample.num_classes == 1:
        return 0.0
    exact = sample.probabilities / sample.probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    classes = np.arange(sample.num_classes)
    return sklearn_metrics.brier_score_loss(sample.labels, exact, labels=classes, scale_by_half=False)


METRICS = (
    Metric(
        "accuracy", "accuracy", lambda sample: sklearn_metrics.accuracy_score(sample.labels, sample.predicted),
        lambda resample: resample.correct.mean(), format=".1%",
    ),
    Metric("balanced_accuracy", "balanced accuracy", _balanced_accuracy, _resampled_balanced_accuracy, format=".1%"),
    Metric("top5_accuracy", "top-5 accuracy", _top5_accuracy, lambda resample: resample.in_top5.mean(), format=".1%"),
    Metric("macro_f1", "macro F1", _macro_f1, _resampled_macro_f1),
    Metric(
        "loss", "log loss, in nats", _log_loss, lambda resample: resample.losses.mean(), bounds=(0.0, np.inf),
        calibration=True,
    ),
    Metric("ece", "expected calibration error", lambda sample: reliability(sample).ece, calibration=True),
    Metric("adaptive_ece", "adaptive ECE", adaptive_ece, calibration=True),
    Metric("brier", "Brier score", _brier_score, bounds=(0.0, 2.0), calibration=True),
)  # fmt: skip
HEADLINES = tuple(metric for metric in METRICS if metric.resample_score or not metric.calibration)
"""Metrics of the predicted classes, and the log loss: the figures at the top of the report and of the model card."""
CALIBRATION = tuple(metric for metric in METRICS if metric.calibration)
"""Metrics reported both before and after temperature scaling."""
