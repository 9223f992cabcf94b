"""The metrics of a sample, as `test` in reports/metrics.json holds them, with confidence intervals."""

from typing import Any

from plumage.evaluation.intervals import DECIMALS, written
from plumage.evaluation.metric_table import CALIBRATION, METRICS
from plumage.evaluation.sample import Sample


def summary(sample: Sample, *, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Every metric, its 95% interval as NAME_ci95 where it has one, and the number of photos as `n`.

    `resamples` and `seed` are for the log loss's interval, the only one that is a bootstrap.
    """
    result: dict[str, Any] = {}
    for metric in METRICS:
        result[metric.name] = round(float(metric.score(sample)), DECIMALS)
        if metric.interval:
            result[f"{metric.name}_ci95"] = written(metric.interval(sample, resamples, seed))
    return result | {"n": len(sample)}


def calibration_summary(sample: Sample) -> dict[str, float]:
    """The metrics that depend on the temperature."""
    return {metric.name: round(float(metric.score(sample)), DECIMALS) for metric in CALIBRATION}
