"""The metrics of a sample, as `test` in reports/metrics.json holds them."""

from typing import Any

from plumage.evaluation.bootstrap import bootstrap
from plumage.evaluation.metric_table import CALIBRATION, METRICS
from plumage.evaluation.sample import Sample

DECIMALS = 6


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
