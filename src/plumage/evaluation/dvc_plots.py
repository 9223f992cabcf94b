"""What `dvc plots` draws from: small CSV files in the form that DVC's templates take."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from plumage.common.files import atomic_path
from plumage.evaluation.metrics import Ints, Reliability, confused_pairs, confusion_matrix
from plumage.evaluation.tables import write_table

CONFUSION_CLASSES = 30
"""DVC's template writes a number into each cell, which is readable up to as many classes."""


def write_plot_data(folder: Path, labels: Ints, predicted: Ints, classes: Sequence[str], bins: Reliability) -> None:
    """Write confusion.csv (actual, predicted: a row a photo; of more than CONFUSION_CLASSES classes only those of the most confused
    pairs) and reliability.csv (confidence, accuracy, photos: a row a bin that has photos). `labels` and `predicted` are N each.
    """
    chosen = _confused_classes(labels, predicted, len(classes))
    kept = np.isin(labels, chosen) & np.isin(predicted, chosen)
    names, some = np.array(classes, dtype=object), bins.count > 0
    tables = {
        "confusion": {"actual": names[labels[kept]], "predicted": names[predicted[kept]]},
        "reliability": {
            "confidence": bins.confidence[some], "accuracy": bins.accuracy[some], "photos": bins.count[some],
        },
    }  # fmt: skip
    with atomic_path(folder) as beside:
        beside.mkdir()
        for name, columns in tables.items():
            write_table(beside / f"{name}.csv", pd.DataFrame(columns))


def _confused_classes(labels: Ints, predicted: Ints, count: int) -> list[int]:
    """As many classes as a picture holds: those of the most confused pairs, and where that is not all yet, the first ones."""
    chosen: dict[int, None] = {}
    for actual, taken_for, _ in confused_pairs(confusion_matrix(labels, predicted, count), CONFUSION_CLASSES**2):
        chosen |= dict.fromkeys((actual, taken_for))
    return list(chosen | dict.fromkeys(range(count)))[:CONFUSION_CLASSES]
