"""What a training leaves: the model, its curves, and the run that they belong to."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from plumage.common.files import atomic_path, write_json
from plumage.models.classifier import ImageClassifier
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model
from plumage.training.trainer import History, OnEpoch


def save_results(
    root: Path,
    model: ImageClassifier,
    classes: list[str],
    preprocessing: Preprocessing,
    temperature: float,
    history: History,
    run: Mapping[str, Any],
) -> None:
    """Write `models/` and `reports/history.csv` under `root`; the latter has a row an epoch, counted from 1.

    `run` is what models/run.json holds of the run besides the best epoch: its id, and what it was started with.
    """
    save_model(root / "models", model, classes, preprocessing, temperature)
    write_history(root / "reports/history.csv", history)
    write_json(root / "models/run.json", {**run, "best_epoch": history.best_epoch})


def epoch_logger(epochs: int, log: Callable[[int, dict[str, float]], None]) -> OnEpoch:
    """Have each of `epochs` logged, and printed in one line; fine-tuning ends with one more."""

    def on_epoch(epoch: int, metrics: dict[str, float], timing: dict[str, float]) -> None:
        log(epoch, {**metrics, **timing})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        name = f"epoch {epoch}/{epochs}" if epoch <= epochs else "classifier again"
        print(f"{name}  {shown}  {timing['train/images_per_second']:,.0f} images/s", flush=True)

    return on_epoch


def write_history(path: Path, history: History) -> None:
    """reports/history.csv: the epoch, then the metrics by their MLflow names."""
    with atomic_path(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *history.epochs[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **metrics} for epoch, metrics in enumerate(history.epochs, start=1))
