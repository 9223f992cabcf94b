"""CSV tables of reports/: classes by name, UTF-8, six decimals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from plumage.common.files import atomic_path
from plumage.common.tables import guarded
from plumage.evaluation.sample import Ints, Sample


def confusion_table(confusion: Ints, classes: Sequence[str]) -> pd.DataFrame:
    """actual, predicted, count: one row per non-zero cell of a C x C confusion matrix, in class order."""
    actual, predicted = np.nonzero(confusion)
    names = np.array(classes, dtype=object)
    return pd.DataFrame({"actual": names[actual], "predicted": names[predicted], "count": confusion[actual, predicted]})


def predictions_table(sample: Sample, keys: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """key, label, prob_label, pred_1, prob_1 ... pred_5, prob_5 (fewer with fewer classes): one row per photo, sorted by key."""
    names, rows = np.array(classes, dtype=object), np.arange(len(sample))
    labels, probabilities = sample.labels, sample.probabilities
    columns = {"key": list(keys), "label": names[labels], "prob_label": probabilities[rows, labels]}
    for rank, predicted in enumerate(sample.top_k(5).T, start=1):
        columns |= {f"pred_{rank}": names[predicted], f"prob_{rank}": probabilities[rows, predicted]}
    return pd.DataFrame(columns).sort_values("key")


def write_table(path: Path, table: pd.DataFrame, float_format: str = "%.6f") -> None:
    """Write `table` to `path` as CSV, no text in it a formula to a spreadsheet (`plumage.common.tables`)."""
    table = table.apply(lambda column: column if is_numeric_dtype(column) else column.map(guarded))
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format=float_format, lineterminator="\n", encoding="utf-8")
