"""Floors and ceilings that every challenger has to meet: one row of LIMITS per key of `register` in params.yaml.

A key that starts with `min_` is a floor, one that starts with `max_` is a ceiling, and null switches it off.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from plumage.common.figures import percentage
from plumage.config import Register
from plumage.errors import ModelError
from plumage.inference.predictor import Predictor
from plumage.models.description import WEIGHTS_FILE
from plumage.models.model_files import read_model
from plumage.registry.candidate import Candidate

DECIMALS = 6
WARM_UP = 5
REPEATS = 30


@dataclass(frozen=True)
class Results:
    """What a challenger's values are computed from."""

    challenger: Candidate
    labels: Sequence[str]
    """The class of each test photo."""
    correct: NDArray[np.bool_]
    """Whether the challenger predicts each test photo correctly."""
    photos: Sequence[bytes]
    """A few photo files to time it with."""


Measure = Callable[[Results], tuple[float, str | None]]
"""Computes a challenger's value, and the class that it belongs to where it is of one class."""


def check_limits(settings: Register, results: Results) -> list[dict[str, Any]]:
    """Check every limit that is set: its `name`, `limit`, `value`, whether it is `met`, and the `label` of its class.

    Raises:
        ModelError: the model's files can't be read.
    """
    checked = []
    for name, measure in LIMITS.items():
        if (limit := getattr(settings, name)) is not None:
            exact, label = measure(results)
            value = round(exact, DECIMALS)
            met = value >= limit if name.startswith("min_") else value <= limit
            entry = {"name": name, "limit": limit, "value": value, "met": met}
            checked.append(entry if label is None else {**entry, "label": label})
    return checked


def written(limit: Mapping[str, Any], key: Literal["limit", "value"]) -> str:
    """One of the two figures of a checked limit: shares as percentages."""
    value = float(limit[key])
    return percentage(value) if limit["name"].startswith("min_") else f"{value:g}"


def _worst_class_recall(results: Results) -> tuple[float, str]:
    labels = np.array(results.labels, dtype=object)
    recalls = {label: float(results.correct[labels == label].mean()) for label in sorted(set(results.labels))}
    return min((recall, label) for label, recall in recalls.items())


def _size_mb(results: Results) -> tuple[float, None]:
    weights = results.challenger.folder / WEIGHTS_FILE
    try:
        return weights.stat().st_size / 1e6, None
    except OSError as error:
        raise ModelError(f"{weights}: can't be read ({error.strerror})") from None


def latency_ms(predictor: Predictor, photos: Sequence[bytes]) -> float:
    """Milliseconds from the bytes of one photo file to its probabilities: the median of REPEATS, one photo at a time.

    `photos` are used in turn, after WARM_UP uncounted ones. The time depends on this machine and its present load, the
    predictor's device and number of threads. It includes no server and no network.
    """
    times = []
    for turn in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        predictor.probabilities([photos[turn % len(photos)]])
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[WARM_UP:])


LIMITS: dict[str, Measure] = {
    "min_accuracy": lambda results: (float(results.challenger.metrics["test"]["accuracy"]), None),
    "min_class_recall": _worst_class_recall,
    "max_ece": lambda results: (float(results.challenger.metrics["test"]["ece"]), None),
    "max_latency_ms": lambda results: (
        latency_ms(Predictor(read_model(results.challenger.folder)), results.photos),
        None,
    ),
    "max_size_mb": _size_mb,
}
