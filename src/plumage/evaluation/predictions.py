"""Predicted classes by name, from a predictions.csv or from a saved model: what two models are compared by."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from plumage.common.class_names import class_identity
from plumage.common.tables import read_rows
from plumage.common.text import some
from plumage.config import Evaluate
from plumage.data.dataset.store import Dataset
from plumage.errors import DataError, ModelError


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


def compute_predictions(
    folder: Path, dataset: Dataset, rows: Sequence[int], classes: Sequence[str], names: Callable[[str], str] = str
) -> list[str]:
    """The most probable of `classes` for each of the photos `rows`, by the model saved in `folder`.

    The model's classes are found by name: `names` says what each is called now. The probabilities of those with one name are
    summed; those of other classes don't count.

    Raises:
        ModelError: the model lacks one of `classes`.
    """
    import torch  # late, as what uses it: importing it takes 2 s, and most predictions are in a file

    from plumage.inference.predict import predict
    from plumage.models.saved_model import load_model

    saved = load_model(folder)
    columns: dict[str, list[int]] = {}
    for number, label in enumerate(saved.classes):
        columns.setdefault(class_identity(names(label)), []).append(number)
    if missing := [label for label in classes if class_identity(label) not in columns]:
        raise ModelError(f"the model does not know {some(list(map(repr, missing)), 3)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    outputs = predict(saved.model, dataset, rows, saved.preprocessing, device, Evaluate().batch_size)
    logits = outputs.logits.astype(np.float64) / saved.temperature
    scores = [logsumexp(logits[:, columns[class_identity(label)]], axis=1) for label in classes]
    return [classes[number] for number in np.argmax(scores, axis=0)]
