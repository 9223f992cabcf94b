"""Selective prediction: a model that answers only where its confidence reaches a threshold, and abstains elsewhere."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plumage.evaluation.intervals import DECIMALS, share_interval, written
from plumage.evaluation.sample import Sample


class CoverageCurve(NamedTuple):
    """Coverage and accuracy at each of K confidence thresholds, the highest threshold first."""

    threshold: NDArray[np.float64]  # K: the distinct confidences
    coverage: NDArray[np.float64]  # K: the share of photos whose confidence reaches the threshold
    accuracy: NDArray[np.float64]  # K: the accuracy on those photos


def coverage_curve(sample: Sample) -> CoverageCurve:
    """Accuracy against coverage (El-Yaniv & Wiener 2010, the risk-coverage curve). Photos of equal confidence share a threshold."""
    order = np.argsort(-sample.confidence, kind="stable")
    confidence, correct = sample.confidence[order], sample.correct[order]
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True)) if len(order) else np.zeros(0, np.int64)
    return CoverageCurve(confidence[last], (last + 1) / max(1, len(order)), np.cumsum(correct)[last] / (last + 1))


def threshold_for(target: float, curve: CoverageCurve) -> float | None:
    """The lowest threshold with an accuracy of `target` or more; None if there is none."""
    reached = np.flatnonzero(curve.accuracy >= target)
    return float(curve.threshold[reached[-1]]) if len(reached) else None


def selective_metrics(sample: Sample, threshold: float | None, target: float) -> dict[str, Any]:
    """`test.abstain` of reports/metrics.json: coverage and accuracy of a model that answers at `threshold` or above.

    With None it never answers: the threshold is written as 1, coverage and accuracy as 0.
    """
    answered = sample.confidence >= (math.inf if threshold is None else threshold)
    accuracy = float(sample.correct[answered].mean()) if answered.any() else 0.0
    groups = sample.group_of
    return {
        "target_accuracy": target,
        "threshold": 1.0 if threshold is None else round(threshold, DECIMALS),
        "coverage": round(float(answered.mean()), DECIMALS),
        "coverage_ci95": written(share_interval(answered, groups)),
        "accuracy": round(accuracy, DECIMALS),
        "accuracy_ci95": written(share_interval(sample.correct[answered], groups[answered])),
        "reached": int(accuracy >= target),
    }
