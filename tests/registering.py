"""Models in a registry, with predictions that a test has chosen."""

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import make_dataset, make_photo

from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.data.sources.photo import Photo
from plumage.data.split.splits_file import rows_hash
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model
from plumage.registry.gate import Gate
from plumage.registry.register import CARD_FILE, register
from plumage.registry.training_photos import write_training_photos
from plumage.tracking.training_run import training_run

NAME = "bird-classifier"
CLASSES = ["jay", "owl", "wren"]
COUNT = 120
"""Photos of the data set: the first half are for training."""


def make_photos(folder: Path) -> Dataset:
    """A data set of COUNT photos of CLASSES, no two alike."""
    photos = [
        Photo(f"{number:03d}.jpg", CLASSES[number % 3], None, make_photo((90, 130, 170), number))
        for number in range(COUNT)
    ]
    return make_dataset(folder, photos)


def make_model(folder: Path, seed: int, classes: list[str] | None = None) -> Path:
    """An untrained model of its own."""
    torch.manual_seed(seed)
    names = classes or CLASSES
    save_model(folder, create_model("efficientnet_lite0", len(names)), names, Preprocessing(size=32, crop_fraction=1.0))
    return folder


def hits(count: int, of: int = COUNT // 2, first: int = 0) -> np.ndarray:
    """Of `of` photos, the `count` from `first` on are answered rightly."""
    right = np.zeros(of, bool)
    right[first : first + count] = True
    return right


def write_answers(path: Path, dataset: Dataset, rows: Sequence[int], right: np.ndarray) -> None:
    """A predictions.csv whose answers for `rows` are right, or the next class."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "label", "prob_label", "pred_1", "prob_1"])
        for row, is_right in zip(rows, right, strict=True):
            label = dataset.labels[row]
            answer = label if is_right else dataset.classes[(dataset.classes.index(label) + 1) % len(dataset.classes)]
            writer.writerow([dataset.keys[row], label, 0.5, answer, 0.5])


def add(
    root: Path,
    seed: int,
    right: np.ndarray,
    *,
    dataset: Dataset | None = None,
    test: Sequence[int] = range(COUNT // 2, COUNT),
    train: Sequence[int] = range(COUNT // 2),
    classes: list[str] | None = None,
    keep_photos: bool = True,
    **settings: Any,
) -> dict[str, Any]:
    """Register the model of `seed`, which answers the photos `test` as `right` says: reports/registry.json's content."""
    dataset = dataset or Dataset(root / "dataset")
    model_dir = make_model(root / f"models-{seed}", seed, classes)
    with (
        tempfile.TemporaryDirectory() as folder,
        training_run(root, "plumage", f"{seed:x}", {"train.seed": seed}) as run,
    ):
        predictions, training_photos = Path(folder, "predictions.csv"), Path(folder, "training_photos.parquet")
        write_answers(predictions, dataset, test, right)
        run.log_artifact(predictions)
        write_training_photos(training_photos, dataset, train)
        card = Path(folder, CARD_FILE)
        card.write_text(f"# The model of seed {seed}\n")
        if not keep_photos:
            training_photos.write_text("")
        return register(
            root,
            run,
            model_name=NAME,
            model_dir=model_dir,
            metrics={"test": {"accuracy": round(float(np.mean(right)), 6), "ece": 0.05}},
            test_hash=rows_hash(dataset, list(test)),
            predictions=predictions,
            training_photos=training_photos,
            gate=Gate(Register(**settings), dataset, test, similarity=0.94),
            card=card,
            kept=[],
        )
