"""How sure the figures are: percentile bootstrap over photos (Efron & Tibshirani 1993, chapters 10 and 13)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


def bootstrap_intervals(
    labels: NDArray[np.integer[Any]],
    predicted: NDArray[np.integer[Any]],
    in_top5: NDArray[np.bool_],
    num_classes: int,
    *,
    resamples: int,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """95% (low, high) of accuracy, top5_accuracy and macro_f1, all from the same `resamples` draws of N photos of N.

    The draws' percentiles are moved by the bootstrap's bias, so that they lie around the figure itself. Accuracies have
    none, but a draw misses photos of small classes and so has a lower macro F1: with 14 photos a class, plain
    percentiles would hold the true macro F1 in 60-85% of data sets, moved ones in 93% or more. With a single photo a
    class no resampling can tell, and the interval is too narrow. Without any error an accuracy's interval has no width.
    """
    rng = np.random.default_rng(seed)

    def figures(chosen: NDArray[np.int64] | slice) -> tuple[float, float, float]:
        label, guess = labels[chosen], predicted[chosen]
        right = label == guess
        photos = np.bincount(label, minlength=num_classes) + np.bincount(guess, minlength=num_classes)
        f1 = 2 * np.bincount(label[right], minlength=num_classes) / np.maximum(photos, 1)
        return float(right.mean()), float(in_top5[chosen].mean()), float(f1.mean())

    # One draw's counts at a time: 1,000 draws of 5,840 photos of 400 classes take 0.3 s and hardly any memory.
    draws = np.array([figures(rng.integers(0, len(labels), len(labels))) for _ in range(resamples)])
    tail = (1 - LEVEL) / 2
    around = np.quantile(draws - draws.mean(axis=0), [tail, 1 - tail], axis=0) + figures(slice(None))
    low, high = np.clip(around, 0, 1).tolist()
    return dict(zip(("accuracy", "top5_accuracy", "macro_f1"), zip(low, high, strict=True), strict=True))
