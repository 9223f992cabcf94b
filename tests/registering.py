"""Registered models whose predictions a test chooses."""

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import numpy as np
import torch
from stores import in_own_store
from support import make_dataset, make_photo

from plumage.common.class_names import ClassNames
from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.data.sources.photo import Photo
from plumage.errors import TrackingError
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model
from plumage.registry.candidate import CARD_FILE, Candidate
from plumage.registry.champion import Champion, Standing
from plumage.registry.class_sets import class_set
from plumage.registry.gate import Gate
from plumage.registry.head_to_head import TestPhotos
from plumage.registry.register import register
from plumage.registry.training_photos import write_training_photos
from plumage.tracking.open_run import training_run

NAME = "bird-classifier"
CLASSES = ["jay", "owl", "wren"]
COUNT = 120
"""Photos in the data set."""
TRAIN, TEST = range(COUNT // 2), range(COUNT // 2, COUNT)


@contextmanager
def repository(folder: Path, database: Path, photos: Path) -> Iterator[None]:
    """Work in `folder`, which gets a copy of an empty store's database and, in `dataset`, of photos."""
    shutil.copy(database, folder)
    shutil.copytree(photos, folder / "dataset")
    with in_own_store(folder):
        yield


def make_photos(folder: Path) -> Dataset:
    """Make a data set of COUNT photos of CLASSES, no two alike."""
    photos = [
        Photo(f"{number:03d}.jpg", CLASSES[number % 3], None, make_photo((90, 130, 170), number))
        for number in range(COUNT)
    ]
    return make_dataset(folder, photos)


def make_model(folder: Path, seed: int, classes: list[str] | None = None) -> Path:
    """Save an untrained model, different for each seed, in `folder`."""
    torch.manual_seed(seed)
    names = classes or CLASSES
    save_model(folder, create_model("efficientnet_lite0", len(names)), names, Preprocessing(size=32, crop_fraction=1.0))
    return folder


def hits(count: int, of: int = COUNT // 2, first: int = 0) -> np.ndarray:
    """A mask of `of` photos in which `count`, from `first` on, are predicted correctly."""
    correct = np.zeros(of, bool)
    correct[first : first + count] = True
    return correct


def write_predictions(path: Path, dataset: Dataset, rows: Sequence[int], correct: np.ndarray) -> None:
    """Write a predictions.csv that predicts each of `rows` correctly, or as the next class."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "label", "prob_label", "pred_1", "prob_1"])
        for row, is_correct in zip(rows, correct, strict=True):
            label = dataset.labels[row]
            other = dataset.classes[(dataset.classes.index(label) + 1) % len(dataset.classes)]
            writer.writerow([dataset.keys[row], label, 0.5, label if is_correct else other, 0.5])


def unavailable() -> NoReturn:
    """Fetch a file that is gone."""
    raise TrackingError("it is gone")


def champion_of(
    predictions: Callable[[], Path] = unavailable, training_photos: Callable[[], Path] = unavailable
) -> Champion:
    """Version 1, a champion of CLASSES that has only these files."""
    return Champion(
        version=1,
        same_test_photos=True,
        predictions=predictions,
        training_photos=training_photos,
        model=unavailable,
        classes=unavailable,
        from_sample=lambda: False,
        class_set=class_set(CLASSES),
    )


class Bench:
    """A gate over 60 test photos, with a challenger and a champion whose correct predictions a test chooses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset = make_photos(folder / "dataset")
        self.champion_trained_on(TRAIN)
        make_model(folder / "models", 0)

    def champion_trained_on(self, rows: range) -> None:
        write_training_photos(self.folder / "photos.parquet", self.dataset, rows)

    def candidate(self, metrics: dict[str, Any]) -> Candidate:
        """The challenger. The gate reads its model and predictions, but not its card and training photos."""
        folder = self.folder
        none = folder / "none"
        return Candidate(folder / "models", 1, metrics, folder / "new.csv", none, none, False, [])

    def decide(self, challenger: np.ndarray, champion: np.ndarray | None, **settings: Any) -> dict[str, Any]:
        write_predictions(self.folder / "new.csv", self.dataset, TEST, challenger)
        old: Champion | None = None
        if champion is not None:
            write_predictions(self.folder / "old.csv", self.dataset, TEST, champion)
            files = [lambda name=name: self.folder / name for name in ("old.csv", "photos.parquet")]
            old = champion_of(*files)
        metrics = {"test": {"accuracy": float(challenger.mean()), "top5_accuracy": 0.97, "macro_f1": 0.75, "ece": 0.05}}
        gate = Gate(Register(**settings), TestPhotos(self.dataset, TEST, 0.94, ClassNames({})))
        decision = gate.decide(self.candidate(metrics), 2, Standing(old, None, None, None))
        json.dumps(decision, allow_nan=False)  # registry.json has to take it
        return decision


def add(
    root: Path,
    seed: int,
    correct: np.ndarray,
    *,
    dataset: Dataset | None = None,
    test: Sequence[int] = TEST,
    train: Sequence[int] = TRAIN,
    classes: list[str] | None = None,
    keep_photos: bool = True,
    provenance: Sequence[Path] = (),
    names: Mapping[str, str] | None = None,
    from_sample: bool = False,
    model: Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Register the model of `seed`, or that in `model`. It predicts the photos `test` as `correct` says. Returns what `register` does."""
    dataset = dataset or Dataset(root / "dataset")
    params = {"train.seed": seed, "data.source": "sample" if from_sample else "folder"}
    with (
        tempfile.TemporaryDirectory() as folder,
        training_run(root, "plumage", f"{seed:x}", params) as run,
    ):
        accuracy = round(float(np.mean(correct)), 6)
        candidate = Candidate(
            folder=model or make_model(root / f"models-{seed}", seed, classes),
            epoch=1,
            metrics={"test": {"accuracy": accuracy, "ece": 0.05}},
            predictions=Path(folder, "predictions.csv"),
            training_photos=Path(folder, "training_photos.parquet"),
            card=Path(folder, CARD_FILE),
            from_sample=from_sample,
            provenance=provenance,
        )
        write_predictions(candidate.predictions, dataset, test, correct)
        run.log_artifact(candidate.predictions)
        write_training_photos(candidate.training_photos, dataset, train)
        if not keep_photos:
            candidate.training_photos.write_text("")
        candidate.card.write_text(f"# The model of seed {seed}\n")
        photos = TestPhotos(dataset, test, 0.94, ClassNames(names or {}))
        # MLflow loads each model that it logs and lets it predict, a third of the time: test_served_model.py does so.
        with patch("mlflow.models.utils._validate_serving_input"):
            return register(root, run, candidate, Gate(Register(**settings), photos))
