"""How often 95% intervals contain the truth: `python benchmarks/coverage.py` prints the table in docs/outputs.md, in some minutes.

A classifier of 6 classes whose accuracy is known is evaluated again and again on other photos.
"""

import warnings
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer
from common import Rows
from scipy.special import softmax
from scipy.stats import bootstrap
from tables import table

from plumage.evaluation.metric_table import METRICS, Metric
from plumage.evaluation.sample import Ints, Sample

CLASSES = 6
PHOTOS = (10, 24, 100, 1000)
SKILLS = {0.5: 1.15, 0.9: 2.71, 0.99: 4.0}
"""The accuracy that each distance of the class means gives."""
SHARPNESS = 1.5
"""Over 1: the classifier is too certain."""
RESAMPLES = 200
INTERVALS = [metric for metric in METRICS if metric.interval and metric.name != "top5_accuracy"]
Interval = Callable[[Metric, Sample, int], tuple[float, float]]


def draw(rng: np.random.Generator, labels: Ints, skill: float, groups: Ints | None = None) -> Sample:
    """Points around class means; photos of one group are one point."""
    points = rng.normal(size=(len(labels), CLASSES))
    if groups is not None:
        points = points[groups]
    points += skill * np.eye(CLASSES)[labels]
    return Sample(labels, softmax(SHARPNESS * skill * points, axis=1).astype(np.float32), groups=groups)


def ours(metric: Metric, sample: Sample, seed: int) -> tuple[float, float]:
    assert metric.interval
    return metric.interval(sample, RESAMPLES, seed)


def resampled(method: str) -> Interval:
    """scipy's bootstrap, for the metrics that are means over photos."""

    def interval(metric: Metric, sample: Sample, seed: int) -> tuple[float, float]:
        values = {"accuracy": sample.correct.astype(float), "loss": sample.losses}[metric.name]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # all values are alike
            found = bootstrap((values,), np.mean, n_resamples=1000, method=method, rng=np.random.default_rng(seed))
        low, high = found.confidence_interval
        return (values[0], values[0]) if np.isnan(low) else (float(low), float(high))

    return interval


def coverage(
    metrics: list[Metric], interval: Interval, photos: int, accuracy: float, evaluations: int, grouped: bool
) -> dict[str, float]:
    """The share of evaluations whose interval contains the metric's value on 120,000 photos, by metric."""
    rng, skill = np.random.default_rng(0), SKILLS[accuracy]
    labels = np.arange(photos) % CLASSES
    many = draw(rng, np.tile(labels, 120_000 // photos), skill)
    truths = {metric.name: metric.score(many) for metric in metrics}
    covered = dict.fromkeys(truths, 0)
    for seed in range(evaluations):
        own, groups = labels, None
        if grouped:  # each photo has 0 to 3 near-duplicates
            groups = np.repeat(np.arange(photos), rng.integers(1, 5, photos))
            own = labels[groups]
        sample = draw(rng, own, skill, groups)
        for metric in metrics:
            low, high = interval(metric, sample, seed)
            covered[metric.name] += low <= truths[metric.name] <= high
    return {name: count / evaluations for name, count in covered.items()}


def main(evaluations: Annotated[int, typer.Option(help="per row")] = 1000) -> None:
    """Print the table."""
    rows: Rows = []
    means = [metric for metric in INTERVALS if metric.name in ("accuracy", "loss")]
    kinds: dict[str, tuple[list[Metric], Interval]] = {
        "ours": (INTERVALS, ours),
        "ours, near-duplicates": (INTERVALS, ours),
        "percentile bootstrap": (means, resampled("percentile")),
        "BCa bootstrap": (means, resampled("BCa")),
    }
    for name, (metrics, interval) in kinds.items():
        for photos in PHOTOS if metrics is INTERVALS else PHOTOS[:-1]:  # bootstraps of more photos take minutes
            for accuracy in SKILLS:
                row: dict[str, Any] = {"interval": name, "photos": f"{photos:,}", "true accuracy": f"{accuracy:.0%}"}
                covered = coverage(metrics, interval, photos, accuracy, evaluations, "near" in name)
                rows.append(row | {metric.label: covered.get(metric.name, "") for metric in INTERVALS})
                print(rows[-1], flush=True)
    print(table(rows))


if __name__ == "__main__":
    typer.run(main)
