"""`reports/report.html`: the evaluation on one page that needs nothing but itself."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from plumage.evaluation.metrics import class_scores, confused_pairs
from plumage.files import atomic_path

LISTED_PAIRS = 20
"""Confused pairs in the report's table."""


def write_report(
    path: Path,
    *,
    title: str,
    metrics: Mapping[str, Any],
    parts: Mapping[str, int],
    classes: Sequence[str],
    confusion: NDArray[np.int64],
    pictures: Mapping[str, Path],
    model: Mapping[str, Any],
    params: Mapping[str, Any],
) -> None:
    """Write the page: the same inputs give the same bytes.

    `metrics` is what `reports/metrics.json` holds; `parts` the photos of each part of the split; `confusion` C x C
    counts of the test photos (row: actual); `pictures` PNG files by caption; `model` and `params` names and values.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("report.html.j2").read_text(encoding="utf-8"))
    page = template.render(
        title=title,
        metrics=metrics,
        parts=parts,
        rows=_class_rows(confusion, classes),
        pairs=[
            (classes[actual], classes[predicted], count, confusion[actual].sum())
            for actual, predicted, count in confused_pairs(confusion, LISTED_PAIRS)
        ],
        errors=confusion.sum() - confusion.trace(),
        pictures={caption: _data_uri(picture) for caption, picture in pictures.items()},
        model=model,
        params=params,
    )
    with atomic_path(path) as beside:
        beside.write_text(page, encoding="utf-8")


def _class_rows(confusion: NDArray[np.int64], classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row a class, the lowest F1 first, with the class that it is most often taken for."""
    scores = class_scores(confusion)
    errors = confusion - np.diag(confusion.diagonal())
    return [
        {
            "label": classes[i],
            "support": int(scores.support[i]),
            "precision": float(scores.precision[i]),
            "recall": float(scores.recall[i]),
            "f1": float(scores.f1[i]),
            "taken_for": classes[errors[i].argmax()] if errors[i].any() else "",
            "times": int(errors[i].max()),
        }
        for i in np.argsort(scores.f1, kind="stable")
    ]


def _data_uri(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode("ascii")
