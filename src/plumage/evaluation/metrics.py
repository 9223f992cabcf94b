"""Figures of a classifier on labelled photos.

Everywhere: `probabilities` is N x C, rows summing to 1; `labels` and `predicted` are N integers in 0..C-1; the
prediction is the most probable class, the first one of equals. A ratio with nothing below the line is 0 (scikit-learn's
`zero_division=0`), and means over classes are over all C classes, also those without a photo.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.evaluation.intervals import Range, f1_interval, wilson

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]


def top_k(probabilities: Floats, k: int) -> Ints:
    """The k most probable classes of each photo (all C when k > C), most probable first: N x min(k, C)."""
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :k]


def accuracy(probabilities: Floats, labels: Ints) -> float:
    """Share of photos whose most probable class is theirs."""
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def losses(probabilities: Floats, labels: Ints) -> NDArray[np.float64]:
    """Each photo's negative log-probability of its class, in nats. A probability of 0 counts as the type's epsilon."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return np.log(1 / np.maximum(of_label, np.finfo(probabilities.dtype).eps), dtype=np.float64)


def confusion_matrix(labels: Ints, predicted: Ints, num_classes: int) -> NDArray[np.int64]:
    """C x C counts: the row is the actual class, the column the predicted one."""
    cells = np.bincount(labels.astype(np.int64) * num_classes + predicted, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall, F1 (each 0..1) and number of photos of each of C classes."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def class_scores(confusion: NDArray[np.int64]) -> ClassScores:
    """The scores of each class from a C x C confusion matrix."""
    right, actual, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        precision=right / np.maximum(predicted, 1),
        recall=right / np.maximum(actual, 1),
        f1=2 * right / np.maximum(actual + predicted, 1),
        support=actual,
    )


def class_ranges(confusion: NDArray[np.int64]) -> dict[str, Range]:
    """95% (low, high) of each class's precision, recall and f1 from a C x C confusion matrix; 0 to 1 where nothing tells."""
    right, actual, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": wilson(right, predicted),
        "recall": wilson(right, actual),
        "f1": f1_interval(right, actual + predicted - 2 * right),
    }


def confused_pairs(confusion: NDArray[np.int64], limit: int) -> list[tuple[int, int, int]]:
    """(actual, predicted, count) of at most `limit` kinds of error, the most frequent first, equals in class order."""
    errors = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-errors, axis=None, kind="stable")[: min(limit, np.count_nonzero(errors))]
    rows, columns = np.unravel_index(order, errors.shape)
    return [(int(i), int(j), int(errors[i, j])) for i, j in zip(rows, columns, strict=True)]


@dataclass(frozen=True)
class Reliability:
    """Photos in equal-width bins (low, high] of confidence, the top class's probability; an empty bin's means are 0."""

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error: the bins' gap between accuracy and confidence, weighted by their photos."""
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / self.count.sum())


def reliability(probabilities: Floats, labels: Ints, bins: int = 15) -> Reliability:
    """Accuracy by confidence (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3)."""
    edges = np.linspace(0, 1, bins + 1)
    confidence = probabilities.max(axis=1).astype(np.float64)
    which = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)  # float32 can sum to just over 1
    right = probabilities.argmax(axis=1) == labels
    count = np.bincount(which, minlength=bins)
    mean = [np.bincount(which, weights=values, minlength=bins) / np.maximum(count, 1) for values in (confidence, right)]
    return Reliability(edges=edges, count=count, confidence=mean[0], accuracy=mean[1])
