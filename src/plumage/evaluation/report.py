"""The HTML report: the evaluation on one self-contained page."""

import base64
import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from plumage.common import figures, paths
from plumage.common.page import write_page
from plumage.evaluation.calibration import Reliability
from plumage.evaluation.metric_table import CALIBRATION, HEADLINES
from plumage.evaluation.result import EvaluationResult
from plumage.evaluation.selective import CoverageCurve
from plumage.evaluation.write_plots import HISTORY_PLOT

MAX_POINTS = 20_000  # most points on the map: it draws in a fiftieth of a second and takes about 2 MB
CURVE_POINTS = 200  # most points of the coverage curve
GRID = 2000  # steps per axis to which the map's coordinates are rounded


def write_report(reports: Path, result: EvaluationResult) -> None:
    """Write report.html into `reports`, which holds plots/ already. The same inputs give the same bytes."""
    write_page(
        reports / paths.REPORT_PAGE.name,
        Path(__file__).with_name("report.html.j2"),
        title=result.title,
        result=result,
        probability=figures.probability,
        share=figures.share,
        sample=result.sample,
        test=result.metrics["test"],
        headlines=HEADLINES,
        calibration=CALIBRATION,
        num_errors=int((~result.sample.correct).sum()),
        classes=_class_rows(result),
        slices=result.slices.to_dict("records"),
        reliability={name: _bins(bins) for name, bins in result.reliability.items()},
        curve=_curve(result.coverage),
        history="data:image/png;base64," + _base64((reports / paths.PLOTS.name / HISTORY_PLOT).read_bytes()),
        max_points=MAX_POINTS,
        data=_data(result),
    )


def _class_rows(result: EvaluationResult) -> list[dict[str, Any]]:
    """One row per class, the lowest F1 first, with the class it is most often confused with."""
    errors = result.confusion - np.diag(result.confusion.diagonal())
    rows: list[dict[str, Any]] = [
        {
            **{str(key): value for key, value in row.items()},
            "number": number,
            "confused_with": result.classes[errors[number].argmax()] if errors[number].any() else "",
            "count": int(errors[number].max()),
        }
        for number, row in enumerate(result.class_scores.to_dict("records"))
    ]
    return sorted(rows, key=lambda row: row["f1"])


def _bins(bins: Reliability) -> list[dict[Hashable, Any]]:
    """The bins that have photos; `share` is a bin's count relative to the fullest bin's."""
    columns = {"low": bins.edges[:-1], "high": bins.edges[1:], "confidence": bins.confidence, "accuracy": bins.accuracy}
    table = pd.DataFrame(columns | {"count": bins.count, "share": bins.count / bins.count.max()})
    return table[bins.count > 0].to_dict("records")


def _curve(curve: CoverageCurve) -> dict[str, Any]:
    """At most CURVE_POINTS points of the curve, and the multiple of 0.1 at which its accuracy axis starts."""
    chosen = np.unique(np.linspace(0, len(curve.coverage) - 1, CURVE_POINTS).round().astype(int))
    coverage, accuracy = curve.coverage[chosen], curve.accuracy[chosen]
    low = float(np.floor(accuracy.min() * 10) / 10)
    return {"low": min(0.9, low), "points": list(zip(coverage.tolist(), accuracy.tolist(), strict=True))}


def _data(result: EvaluationResult) -> Markup:
    """Data of the page's script, as JSON that is safe in a script element. Classes and photos go by their index."""
    actual, predicted = np.nonzero(result.confusion)
    data = {
        "classes": list(result.classes),
        "support": result.confusion.sum(axis=1).tolist(),
        "order": result.class_order.tolist(),
        "cells": np.stack([actual, predicted, result.confusion[actual, predicted]], axis=1).ravel().tolist(),
        "points": _points(result),
        "photos": {index: _base64(photo.jpeg) for index, photo in result.example_photos.items()},
        "heat": {
            index: [*photo.heat.shape, _base64((photo.heat * 255).round().astype(np.uint8).tobytes())]
            for index, photo in result.example_photos.items()
        },
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _points(result: EvaluationResult) -> dict[str, Any]:
    """The map's points, at most MAX_POINTS, evenly chosen: coordinates in steps of GRID, label, prediction and key."""
    count = len(result.sample)
    indices = np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(int))
    points = result.embedding.points[indices]
    extent = np.ptp(points, axis=0).max() or 1
    margin = (1 - np.ptp(points, axis=0) / extent) / 2  # centres the shorter axis in the square
    grid = ((points - points.min(axis=0)) / extent + margin) * GRID
    return {
        "grid": GRID,
        "x": grid[:, 0].round().astype(int).tolist(),
        "y": (GRID - grid[:, 1]).round().astype(int).tolist(),
        "label": result.sample.labels[indices].tolist(),
        "predicted": result.sample.predicted[indices].tolist(),
        "key": [result.keys[index] for index in indices.tolist()],
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
