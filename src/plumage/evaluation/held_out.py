"""What cross-validation predicted for the photos it held out, in reports/folds.csv."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plumage.common.tables import read_rows
from plumage.data.dataset.store import Dataset
from plumage.errors import DataError
from plumage.evaluation.sample import Sample
from plumage.evaluation.tables import predictions_table, write_table


class HeldOut(NamedTuple):
    """N photos, each predicted by the model of the fold that held it out."""

    keys: Sequence[str]
    folds: NDArray[np.int64]  # N, counted from 1
    sample: Sample


def write_held_out(path: Path, held_out: HeldOut, classes: Sequence[str]) -> None:
    """Write reports/folds.csv: the columns of predictions.csv, and each photo's fold; sorted by key."""
    table = predictions_table(held_out.sample, held_out.keys, classes)
    table.insert(2, "fold", held_out.folds[table.index])
    write_table(path, table, float_format="%.9g")  # all digits of float32, so that equal ones stay equal


def read_held_out(path: Path, dataset: Dataset) -> HeldOut | None:
    """Read reports/folds.csv; None without folds. Of the probabilities it has the label's and the five highest.

    Raises:
        DataError: the file can't be read, or belongs to other photos or classes.
    """
    number = {label: index for index, label in enumerate(dataset.classes)}
    try:
        rows = list(read_rows(path))
        labels = np.array([number[row["label"]] for row in rows], np.int64)
        probabilities = np.zeros((len(rows), len(number)), np.float32)
        for index, row in enumerate(rows):
            probabilities[index, labels[index]] = row["prob_label"]
            for rank in range(1, min(5, len(number)) + 1):
                probabilities[index, number[row[f"pred_{rank}"]]] = row[f"prob_{rank}"]
        folds = np.array([int(row["fold"]) for row in rows], np.int64)
        keys = [row["key"] for row in rows]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a table of held-out predictions ({error}); run `dvc repro folds`") from None
    if not set(keys) <= set(dataset.keys):
        raise DataError(f"{path}: holds other photos than the data set; run `dvc repro folds`")
    return HeldOut(keys, folds, Sample(labels, probabilities)) if rows else None
