"""Data of `dvc plots`: small CSV files in the form that DVC's templates take."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from plumage.common.files import atomic_path
from plumage.evaluation.calibration import reliability
from plumage.evaluation.confusion import confused_pairs
from plumage.evaluation.sample import Ints, Sample
from plumage.evaluation.tables import write_table

MAX_CLASSES = 30
"""DVC's template writes a number into each cell of the confusion matrix, which is readable up to this many classes."""


def write_plot_data(folder: Path, sample: Sample, classes: Sequence[str], confusion: Ints) -> None:
    """Write confusion.csv and reliability.csv into `folder`.

    confusion.csv (actual, predicted) has one row per photo; with more than MAX_CLASSES classes only the most confused ones are kept.
    reliability.csv (confidence, accuracy, photos) has one row per bin that has photos.
    """
    chosen = _most_confused_classes(confusion)
    kept = np.isin(sample.labels, chosen) & np.isin(sample.predicted, chosen)
    names, bins = np.array(classes, dtype=object), reliability(sample)
    filled = bins.count > 0
    tables = {
        "confusion": {"actual": names[sample.labels[kept]], "predicted": names[sample.predicted[kept]]},
        "reliability": {
            "confidence": bins.confidence[filled], "accuracy": bins.accuracy[filled], "photos": bins.count[filled],
        },
    }  # fmt: skip
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, columns in tables.items():
            write_table(temporary / f"{name}.csv", pd.DataFrame(columns))


def _most_confused_classes(confusion: Ints) -> list[int]:
    """At most MAX_CLASSES classes: those of the most confused pairs, then the first of the others."""
    chosen: dict[int, None] = {}
    for actual, predicted, _ in confused_pairs(confusion, MAX_CLASSES**2):
        chosen |= dict.fromkeys((actual, predicted))
    return list(chosen | dict.fromkeys(range(len(confusion))))[:MAX_CLASSES]
