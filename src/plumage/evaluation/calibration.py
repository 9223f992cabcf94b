"""Calibration: whether a probability is how often such a prediction is correct."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from plumage.evaluation.sample import Sample


@dataclass(frozen=True)
class Reliability:
    """Photos in B equal-width bins (low, high] of confidence. The means of an empty bin are 0."""

    edges: NDArray[np.float64]  # B + 1
    count: NDArray[np.int64]  # B: photos per bin
    confidence: NDArray[np.float64]  # B: mean confidence per bin
    accuracy: NDArray[np.float64]  # B: accuracy per bin

    @property
    def ece(self) -> float:
        """Expected calibration error: the gap between accuracy and confidence, averaged over bins by their number of photos."""
        return float((self.count * np.abs(self.accuracy - self.confidence)).sum() / self.count.sum())


def reliability(sample: Sample) -> Reliability:
    """Accuracy by confidence (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3)."""
    bins, confidence = sample.bins, sample.confidence
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence) - 1, 0, bins - 1)  # a float32 confidence can be just over 1
    count = np.bincount(bin_of, minlength=bins)
    sums = (np.bincount(bin_of, weights=values, minlength=bins) for values in (confidence, sample.correct))
    return Reliability(edges, count, *(total / np.maximum(count, 1) for total in sums))


def adaptive_ece(sample: Sample) -> float:
    """Expected calibration error over bins with equally many photos, by confidence (Nguyen & O'Connor 2015, arXiv 1508.05154).

    Where most predictions are confident, bins of equal width (`reliability`) leave them all in one. Photos of equal confidence share a bin.
    """
    confidence = sample.confidence
    bin_of = np.searchsorted(np.sort(confidence), confidence) * sample.bins // len(sample)
    gap = np.bincount(bin_of, weights=sample.correct) - np.bincount(bin_of, weights=confidence)
    return float(np.abs(gap).sum() / len(sample))
