"""`reports/report.html`: the evaluation on one page that needs nothing but itself."""

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from plumage.common.files import atomic_path
from plumage.evaluation.metrics import Floats
from plumage.evaluation.result import EvaluationResult

MAX_POINTS = 20_000
"""Of the map: a fiftieth of a second to draw, and some 2 MB."""
CURVE_POINTS = 200
GRID = 2000
"""Steps of a point's coordinates."""


def write_report(path: Path, judged: EvaluationResult, history: Path) -> None:
    """Write the page: the same inputs give the same bytes. `history` is the picture of the training, a PNG file."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["n"] = "{:,}".format
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    wrong = int(judged.confusion.sum() - judged.confusion.trace())
    page = template.render(
        judged=judged,
        test=judged.metrics["test"],
        errors=wrong,
        classes=_class_rows(judged),
        slices=judged.slices.to_dict("records"),
        reliability={name: _bins(bins) for name, bins in judged.reliability.items()},
        curve=_curve(*judged.coverage),
        history="data:image/png;base64," + _base64(history.read_bytes()),
        probability=lambda place, label: float(judged.probabilities[place, label]),
        points=MAX_POINTS,
        data=_data(judged),
    )
    with atomic_path(path) as beside:
        beside.write_text(page, encoding="utf-8")


def _class_rows(judged: EvaluationResult) -> list[dict[str, Any]]:
    """A row a class, the lowest F1 first, with the class that it is most often taken for."""
    errors = judged.confusion - np.diag(judged.confusion.diagonal())
    rows: list[dict[str, Any]] = [
        {
            **{str(key): value for key, value in row.items()},
            "number": number,
            "taken_for": judged.classes[errors[number].argmax()] if errors[number].any() else "",
            "times": int(errors[number].max()),
        }
        for number, row in enumerate(judged.per_class.to_dict("records"))
    ]
    return sorted(rows, key=lambda row: row["f1"])


def _bins(bins: Any) -> list[dict[str, float]]:
    """The bins that have photos, with the height of their bars: the share of the fullest one."""
    return [
        {
            "low": float(bins.edges[i]),
            "high": float(bins.edges[i + 1]),
            "confidence": float(bins.confidence[i]),
            "accuracy": float(bins.accuracy[i]),
            "count": int(bins.count[i]),
            "share": float(bins.count[i] / bins.count.max()),
        }
        for i in np.flatnonzero(bins.count).tolist()
    ]


def _curve(coverage: Floats, accuracy: Floats) -> dict[str, Any]:
    """At most CURVE_POINTS of the curve, and the tenth that its axis starts at."""
    chosen = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).round().astype(int))
    low = np.floor(accuracy[chosen].min() * 10) / 10
    return {
        "low": min(0.9, float(low)),
        "points": list(zip(coverage[chosen].tolist(), accuracy[chosen].tolist(), strict=True)),
    }


def _data(judged: EvaluationResult) -> Markup:
    """What the page's script reads, as JSON that can stand in a script element: classes by number, photos by their place."""
    actual, predicted = np.nonzero(judged.confusion)
    count = len(judged.labels)
    places = np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(int))
    points = judged.embedding.points[places]
    low, extent = points.min(axis=0), np.ptp(points, axis=0).max()
    middle = (1 - np.ptp(points, axis=0) / (extent or 1)) / 2  # of the shorter axis in the square
    grid = ((points - low) / (extent or 1) + middle) * GRID
    data = {
        "classes": list(judged.classes),
        "support": judged.confusion.sum(axis=1).tolist(),
        "order": judged.order.tolist(),
        "cells": np.stack([actual, predicted, judged.confusion[actual, predicted]], axis=1).ravel().tolist(),
        "points": {
            "grid": GRID,
            "x": grid[:, 0].round().astype(int).tolist(),
            "y": (GRID - grid[:, 1]).round().astype(int).tolist(),
            "label": judged.labels[places].tolist(),
            "predicted": judged.predicted[places].tolist(),
            "key": [judged.keys[place] for place in places.tolist()],
        },
        "photos": {place: _base64(photo.jpeg) for place, photo in judged.photos.items()},
        "heat": {
            place: [*photo.heat.shape, _base64((photo.heat * 255).round().astype(np.uint8).tobytes())]
            for place, photo in judged.photos.items()
        },
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
