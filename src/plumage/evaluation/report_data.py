"""Data of the report's script: classes, the confusion matrix, photos, and the points of the map."""

import json
from base64 import b64encode
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from plumage.evaluation.embedding import frame
from plumage.evaluation.examples import spread_first
from plumage.evaluation.result import EvaluationResult

MAX_POINTS = 20_000
"""Most photos on the map and in the matrix's cells: they take a fiftieth of a second to draw, and about 2 MB."""
MAX_LABEL_ERRORS = 48
"""Photos shown whose label is likely wrong."""
GRID = 2000
"""Steps per axis to which the map's coordinates are rounded."""


def report_data(result: EvaluationResult) -> Markup:
    """JSON that is safe in a script element. Classes and photos go by their index."""
    actual, predicted = np.nonzero(result.confusion)
    data = {
        "classes": list(result.classes),
        "support": result.confusion.sum(axis=1).tolist(),
        "order": result.class_order.tolist(),
        "cells": np.stack([actual, predicted, result.confusion[actual, predicted]], axis=1).ravel().tolist(),
        "points": _points(result),
        "photos": {index: base64(photo.jpeg) for index, photo in result.example_photos.items()},
        "heat": {
            index: [*photo.heat.shape, base64((photo.heat * 255).round().astype(np.uint8).tobytes())]
            for index, photo in result.example_photos.items()
        },
        "thumbnails": {index: base64(picture) for index, picture in result.thumbnails.items()},
        "suspects": [base64(each.picture) for each in result.label_errors[:MAX_LABEL_ERRORS]],
    }
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def num_outside(result: EvaluationResult) -> int:
    """How many photos the map shows at its edge, because they lie outside of it."""
    points = result.embedding.points
    low, high = frame(points)
    return int(((points < low) | (points > high)).any(axis=1).sum())


def _points(result: EvaluationResult) -> dict[str, Any]:
    """At most MAX_POINTS photos, mistakes and examples before others: place on the map in steps of GRID, label, prediction, key."""
    indices = _photos(result)
    low, high = frame(result.embedding.points)
    extent = (high - low).max() or 1
    margin = (1 - (high - low) / extent) / 2  # centres the shorter axis in the square
    grid = ((np.clip(result.embedding.points[indices], low, high) - low) / extent + margin) * GRID
    return {
        "grid": GRID,
        "photo": indices.tolist(),
        "x": grid[:, 0].round().astype(int).tolist(),
        "y": (GRID - grid[:, 1]).round().astype(int).tolist(),
        "label": result.sample.labels[indices].tolist(),
        "predicted": result.sample.predicted[indices].tolist(),
        "confidence": (result.sample.confidence[indices] * 1000).round().astype(int).tolist(),  # per mille
        "key": [result.keys[index] for index in indices.tolist()],
    }


def _photos(result: EvaluationResult) -> NDArray[np.int64]:
    first = ~result.sample.correct
    first[list(result.example_photos)] = True
    return spread_first(np.flatnonzero(first), np.flatnonzero(~first), MAX_POINTS)


def base64(data: bytes) -> str:
    """`data` as text for a data URI."""
    return b64encode(data).decode("ascii")
