"""The tables beside `reports/metrics.json`, as CSV: classes by name, in UTF-8, figures to 6 decimals."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plumage.common.files import atomic_path
from plumage.evaluation.intervals import Range, wilson
from plumage.evaluation.metrics import ClassScores, Floats, Ints, top_k
from plumage.evaluation.slices import Slice


def write_confusion(path: Path, confusion: NDArray[np.int64], classes: Sequence[str]) -> None:
    """actual, predicted, count: the non-zero cells of a C x C confusion matrix, in class order."""
    actual, predicted = np.nonzero(confusion)
    names = np.array(classes, dtype=object)
    columns = {"actual": names[actual], "predicted": names[predicted], "count": confusion[actual, predicted]}
    write_table(path, pd.DataFrame(columns))


def write_per_class(
    path: Path, scores: ClassScores, ranges: Mapping[str, Range], classes: Sequence[str]
) -> pd.DataFrame:
    """label, precision, recall, f1, support, then `ranges`, of each figure <name>_low and <name>_high: a row a class, in class order."""
    columns = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1, "support": scores.support}
    ends = {
        f"{name}_{end}": side for name, both in ranges.items() for end, side in zip(("low", "high"), both, strict=True)
    }
    return write_table(path, pd.DataFrame({"label": list(classes)} | columns | ends))


def write_slices(path: Path, slices: Sequence[Slice]) -> pd.DataFrame:
    """slice, low, high, n, accuracy, accuracy_low, accuracy_high, rest_accuracy, p_value, worse (0 or 1): a row a slice."""
    right, photos = (np.array([getattr(part, name) for part in slices], np.int64) for name in ("right", "photos"))
    low, high = wilson(right, photos)
    columns = {
        "slice": [part.what for part in slices],
        "low": [part.low for part in slices],
        "high": [part.high for part in slices],
        "n": photos,
        "accuracy": right / photos,
        "accuracy_low": low,
        "accuracy_high": high,
        "rest_accuracy": [part.rest_right / part.rest_photos for part in slices],
        "p_value": [part.p_value for part in slices],
        "worse": [int(part.worse) for part in slices],
    }
    return write_table(path, pd.DataFrame(columns))


def write_predictions(
    path: Path, keys: Sequence[str], labels: Ints, probabilities: Floats, classes: Sequence[str]
) -> None:
    """key, label, prob_label, pred_1, prob_1 ... pred_5, prob_5 (fewer with fewer classes): a row a photo, by key."""
    names = np.array(classes, dtype=object)
    rows = np.arange(len(labels))
    columns = {"key": list(keys), "label": names[labels], "prob_label": probabilities[rows, labels]}
    for rank, predicted in enumerate(top_k(probabilities, 5).T, start=1):
        columns |= {f"pred_{rank}": names[predicted], f"prob_{rank}": probabilities[rows, predicted]}
    write_table(path, pd.DataFrame(columns).sort_values("key"))


def write_table(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Write `table` in the way of this file, and return it."""
    with atomic_path(path) as beside:
        table.to_csv(beside, index=False, float_format="%.6f", lineterminator="\n", encoding="utf-8")
    return table
