"""Floors and ceilings that every challenger has to meet: one row of LIMITS per key of `register` in params.yaml.

A key that starts with `min_` is a floor, one that starts with `max_` is a ceiling, and null switches it off.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plumage.config import Register
from plumage.errors import ModelError
from plumage.inference.latency import latency_ms
from plumage.inference.predictor import Predictor
from plumage.models.saved_model import WEIGHTS_FILE, load_model

DECIMALS = 6


@dataclass(frozen=True)
class Results:
    """What a challenger's values are computed from."""

    metrics: Mapping[str, Any]
    """The section `test` of reports/metrics.json."""
    labels: Sequence[str]
    """The class of each test photo."""
    correct: NDArray[np.bool_]
    """Whether the challenger predicts each test photo correctly."""
    folder: Path
    """Holds its weights and description."""
    photos: Sequence[bytes]
    """A few photo files to time it with."""


class Value(NamedTuple):
    """A challenger's value, and the class that it belongs to where it is of one class."""

    value: float
    label: str | None = None


def check_limits(settings: Register, results: Results) -> list[dict[str, Any]]:
    """Check every limit that is set: its `name`, `limit`, `value`, whether it is `met`, and the `label` of its class.

    Raises:
        ModelError: the model's files can't be read.
    """
    checked = []
    for name, measure in LIMITS.items():
        limit = getattr(settings, name)
        if limit is not None:
            value, label = measure(results)
            value = round(value, DECIMALS)
            met = value >= limit if name.startswith("min_") else value <= limit
            entry = {"name": name, "limit": limit, "value": value, "met": met}
            checked.append(entry if label is None else {**entry, "label": label})
    return checked


def _metric(name: str) -> Callable[[Results], Value]:
    return lambda results: Value(float(results.metrics[name]))


def _worst_class_recall(results: Results) -> Value:
    labels = np.array(results.labels, dtype=object)
    recalls = {label: float(results.correct[labels == label].mean()) for label in sorted(set(results.labels))}
    worst = min(recalls, key=lambda label: recalls[label])
    return Value(recalls[worst], worst)


def _latency_ms(results: Results) -> Value:
    return Value(latency_ms(Predictor(load_model(results.folder)), results.photos))


def _size_mb(results: Results) -> Value:
    weights = results.folder / WEIGHTS_FILE
    try:
        return Value(weights.stat().st_size / 1e6)
    except OSError as error:
        raise ModelError(f"{weights}: can't be read ({error.strerror})") from None


LIMITS: dict[str, Callable[[Results], Value]] = {
    "min_accuracy": _metric("accuracy"),
    "min_class_recall": _worst_class_recall,
    "max_ece": _metric("ece"),
    "max_latency_ms": _latency_ms,
    "max_size_mb": _size_mb,
}
