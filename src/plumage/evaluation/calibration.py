"""Probabilities that mean what they say, and a model that may abstain.

Everywhere: `logits` and `probabilities` are N x C, `labels` N integers in 0..C-1; confidence is the most probable class's probability.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plumage.evaluation.metrics import Floats, Ints


def brier_score(probabilities: Floats, labels: Ints) -> float:
    """The mean squared distance of the probabilities from the truth, 0 to 2 (Brier 1950): the sum over classes, not their mean."""
    distance = probabilities.astype(np.float64)
    distance[np.arange(len(labels)), labels] -= 1
    return float((distance**2).sum(axis=1).mean())


def adaptive_ece(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """Expected calibration error over bins of equally many photos, by confidence (Nguyen & O'Connor 2015, arXiv 1508.05154): where most
    photos are sure, bins of equal width (`metrics.reliability`) leave them all in one. Photos of equal confidence share a bin.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    which = np.searchsorted(np.sort(confidence), confidence) * bins // len(labels)
    gap = np.bincount(which, weights=right) - np.bincount(which, weights=confidence)
    return float(np.abs(gap).sum() / len(labels))


class Coverage(NamedTuple):
    """What a model says that abstains below a threshold of confidence; K thresholds, the highest first."""

    threshold: NDArray[np.float64]
    """The K confidences that occur."""
    coverage: NDArray[np.float64]
    """The share of photos that are at least so sure."""
    accuracy: NDArray[np.float64]
    """Among those."""


def coverage_curve(probabilities: Floats, labels: Ints) -> Coverage:
    """Accuracy against coverage (El-Yaniv & Wiener 2010, the risk-coverage curve); photos of equal confidence are taken together."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[order], (probabilities.argmax(axis=1) == labels)[order]
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True)) if len(order) else np.zeros(0, np.int64)
    return Coverage(confidence[last], (last + 1) / max(1, len(order)), np.cumsum(right)[last] / (last + 1))


def threshold_for(target: float, curve: Coverage) -> float | None:
    """The lowest threshold at which the accuracy is `target` or more; None where none is."""
    enough = np.flatnonzero(curve.accuracy >= target)
    return float(curve.threshold[enough[-1]]) if len(enough) else None


def selective_metrics(probabilities: Floats, labels: Ints, threshold: float | None, target: float) -> dict[str, Any]:
    """`abstain` of reports/metrics.json: how a model does that answers only at `threshold` or more. It never answers with None, which
    is written as 1; the accuracy of no answers is 0.
    """
    sure = probabilities.max(axis=1).astype(np.float64) >= (math.inf if threshold is None else threshold)
    right = probabilities.argmax(axis=1) == labels
    accuracy = float(right[sure].mean()) if sure.any() else 0.0
    return {
        "target_accuracy": target,
        "threshold": 1.0 if threshold is None else round(threshold, 6),
        "coverage": round(float(sure.mean()), 6),
        "accuracy": round(accuracy, 6),
        "reached": int(accuracy >= target),
    }
