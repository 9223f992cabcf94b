"""The metrics of a sample, as `test` in reports/metrics.json holds them, with confidence intervals.

The intervals are percentile bootstraps over photos (Efron & Tibshirani 1993, chapters 10 and 13).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.evaluation.metric_table import CALIBRATION, METRICS
from plumage.evaluation.sample import Resample, Sample

DECIMALS = 6
CONFIDENCE = 0.95


def summary(sample: Sample, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Every metric, its 95% interval as NAME_ci95 where it has one, and the number of photos as `n`.

    An interval is {"low", "high"} rather than a list, because DVC leaves lists out of its metrics.
    """
    intervals = bootstrap(sample, resamples=resamples, seed=seed)
    result: dict[str, Any] = {}
    for metric in METRICS:
        result[metric.name] = round(float(metric.score(sample)), DECIMALS)
        if metric.name in intervals:
            low, high = intervals[metric.name]
            result[f"{metric.name}_ci95"] = {"low": round(low, DECIMALS), "high": round(high, DECIMALS)}
    return result | {"n": len(sample)}


def calibration_summary(sample: Sample) -> dict[str, float]:
    """The metrics that depend on the temperature."""
    return {metric.name: round(float(metric.score(sample)), DECIMALS) for metric in CALIBRATION}


def bootstrap(sample: Sample, *, resamples: int, seed: int) -> dict[str, tuple[float, float]]:
    """The 95% interval (low, high) of each metric that has a `resample_score`, all from the same `resamples` resamples of N photos.

    The percentiles are shifted by the bootstrap's bias, so that the interval lies around the metric itself. Accuracies and the loss have
    no bias, but a resample misses photos of small classes and so has a lower macro F1: with 14 photos per class, plain percentiles would
    cover the true macro F1 in 60-85% of data sets, shifted ones in 93% or more. With one photo per class the interval is too narrow.
    """
    rng = np.random.default_rng(seed)
    rows = [(metric.name, metric.resample_score, metric.bounds) for metric in METRICS if metric.resample_score]

    def scores(chosen: NDArray[np.int64] | slice) -> list[float]:
        resample = Resample(sample, chosen)
        return [score(resample) for _, score, _ in rows]

    # One resample at a time: 1,000 resamples of 5,840 photos in 400 classes take 0.3 s and hardly any memory.
    draws = np.array([scores(rng.integers(0, len(sample), len(sample))) for _ in range(resamples)])
    tail = (1 - CONFIDENCE) / 2
    ends = np.quantile(draws - draws.mean(axis=0), [tail, 1 - tail], axis=0) + scores(slice(None))
    return {
        name: (max(low, lowest), min(high, highest))
        for (name, _, (lowest, highest)), low, high in zip(rows, *ends.tolist(), strict=True)
    }
