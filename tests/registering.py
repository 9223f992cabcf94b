"""Registered models whose predictions a test chooses."""

import csv
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from support import make_dataset, make_photo

from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.data.sources.photo import Photo
from plumage.errors import TrackingError
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model
from plumage.registry.candidate import CARD_FILE, Candidate
from plumage.registry.champion import Champion
from plumage.registry.gate import Gate
from plumage.registry.register import register
from plumage.registry.training_photos import write_training_photos
from plumage.tracking.open_run import training_run

NAME = "bird-classifier"
CLASSES = ["jay", "owl", "wren"]
COUNT = 120
"""Photos in the data set."""
TRAIN, TEST = range(COUNT // 2), range(COUNT // 2, COUNT)


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
        return Candidate(folder / "models", 1, metrics, folder / "new.csv", folder / "none", folder / "none", [])

    def decide(self, challenger: np.ndarray, champion: np.ndarray | None, **settings: Any) -> dict[str, Any]:
        write_predictions(self.folder / "new.csv", self.dataset, TEST, challenger)
        old: Champion | None = None
        if champion is not None:
            write_predictions(self.folder / "old.csv", self.dataset, TEST, champion)
            files = [lambda name=name: self.folder / name for name in ("old.csv", "photos.parquet")]
            old = Champion(1, True, *files, model=unavailable)
        metrics = {"test": {"accuracy": float(challenger.mean()), "top5_accuracy": 0.97, "macro_f1": 0.75, "ece": 0.05}}
        decision = Gate(Register(**settings), self.dataset, TEST, 0.94).decide(self.candidate(metrics), 2, old, None)
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
    **settings: Any,
) -> dict[str, Any]:
    """Register the model of `seed`, which predicts the photos `test` as `correct` says. Returns what `register` does."""
    dataset = dataset or Dataset(root / "dataset")
    with (
        tempfile.TemporaryDirectory() as folder,
        training_run(root, "plumage", f"{seed:x}", {"train.seed": seed}) as run,
    ):
        accuracy = round(float(np.mean(correct)), 6)
        candidate = Candidate(
            folder=make_model(root / f"models-{seed}", seed, classes),
            epoch=1,
            metrics={"test": {"accuracy": accuracy, "ece": 0.05}},
            predictions=Path(folder, "predictions.csv"),
            training_photos=Path(folder, "training_photos.parquet"),
            card=Path(folder, CARD_FILE),
            provenance=provenance,
        )
        write_predictions(candidate.predictions, dataset, test, correct)
        run.log_artifact(candidate.predictions)
        write_training_photos(candidate.training_photos, dataset, train)
        if not keep_photos:
            candidate.training_photos.write_text("")
        candidate.card.write_text(f"# The model of seed {seed}\n")
        return register(root, run, candidate, Gate(Register(**settings), dataset, test, similarity=0.94))
