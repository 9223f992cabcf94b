"""Which class a model takes each photo for, by name: what models of the same classes are compared by."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch

from plumage.config import Evaluate
from plumage.data.dataset.store import Dataset
from plumage.errors import DataError, ModelError
from plumage.inference.predict import predict
from plumage.models.saved_model import load_model


def read_answers(path: Path, keys: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The answers (`pred_1`) in a predictions.csv for the photos `keys`, in their order.

    DataError when it can't be read, or is of other photos, or of photos with other labels.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            answers = {row["key"]: (row["label"], row["pred_1"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: is no table of predictions ({error})") from None
    if answers.keys() != set(keys) or any(answers[key][0] != label for key, label in zip(keys, labels, strict=True)):
        raise DataError(f"{path}: is of other photos or labels than the test photos; run `dvc repro evaluate`")
    return [answers[key][1] for key in keys]


def answers_of(folder: Path, dataset: Dataset, rows: Sequence[int]) -> list[str]:
    """The answers of the model saved in `folder` for the photos `rows`. ModelError when it knows other classes."""
    saved = load_model(folder)
    lacking, more = set(dataset.classes) - set(saved.classes), set(saved.classes) - set(dataset.classes)
    if lacking or more:
        told = [f"{what} {_some(names)}" for what, names in (("does not know", lacking), ("also knows", more)) if names]
        raise ModelError(f"it knows other classes than the test photos have: it {' and '.join(told)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    outputs = predict(saved.model, dataset, rows, saved.preprocessing, device, Evaluate().batch_size)
    return [saved.classes[number] for number in outputs.logits.argmax(axis=1)]


def _some(names: set[str]) -> str:
    listed = ", ".join(repr(name) for name in sorted(names)[:3])
    return f"{listed} and {len(names) - 3} more" if len(names) > 3 else listed
