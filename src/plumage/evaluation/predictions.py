"""Predicted classes by name, from a predictions.csv or from a saved model: what two models are compared by."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from plumage.common.tables import read_rows
from plumage.config import Evaluate
from plumage.data.dataset.store import Dataset
from plumage.errors import DataError, ModelError
from plumage.inference.predict import predict
from plumage.models.saved_model import load_model


def read_predictions(path: Path, keys: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The predicted classes (`pred_1`) in a predictions.csv, in the order of `keys`.

    Raises:
        DataError: the file can't be read, or has other photos or other labels than `keys` and `labels`.
    """
    try:
        rows = {row["key"]: (row["label"], row["pred_1"]) for row in read_rows(path)}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not a table of predictions ({error})") from None
    if any(predicted is None for _, predicted in rows.values()):
        raise DataError(f"{path}: has a row that is cut off; run `dvc repro evaluate`")
    if rows.keys() != set(keys) or any(rows[key][0] != label for key, label in zip(keys, labels, strict=True)):
        raise DataError(f"{path}: holds other photos or labels than the test split; run `dvc repro evaluate`")
    return [rows[key][1] for key in keys]


def compute_predictions(folder: Path, dataset: Dataset, rows: Sequence[int]) -> list[str]:
    """The classes that the model saved in `folder` predicts for the photos `rows`.

    Raises:
        ModelError: the model's classes are not the data set's.
    """
    saved = load_model(folder)
    missing, extra = set(dataset.classes) - set(saved.classes), set(saved.classes) - set(dataset.classes)
    if missing or extra:
        both = (("does not know", missing), ("also knows", extra))
        differences = [f"{what} {_some(names)}" for what, names in both if names]
        raise ModelError(f"the model's classes differ from the data set's: it {' and '.join(differences)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    outputs = predict(saved.model, dataset, rows, saved.preprocessing, device, Evaluate().batch_size)
    return [saved.classes[number] for number in outputs.logits.argmax(axis=1)]


def _some(names: set[str]) -> str:
    listed = ", ".join(repr(name) for name in sorted(names)[:3])
    return f"{listed} and {len(names) - 3} more" if len(names) > 3 else listed
