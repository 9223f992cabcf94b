"""Files that the train stage writes: the model, its curves, and the MLflow run they belong to."""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from plumage.common.files import atomic_path, write_json
from plumage.common.paths import HISTORY, MODELS, RUN
from plumage.models.classifier import ImageClassifier
from plumage.models.saved_model import save_model
from plumage.training.context import TrainingData
from plumage.training.state import History, Metrics, OnEpoch
from plumage.training.temperature import best_temperature


def save_results(
    model: ImageClassifier, data: TrainingData, history: History, device: torch.device, run: Mapping[str, Any]
) -> None:
    """Calibrate the trained `model` and write it, `history` and, with the best epoch added, `run` (models/run.json)."""
    temperature = best_temperature(model, history, data, device)
    save_model(MODELS, model, data.dataset.classes, data.preprocessing, temperature)
    write_history(HISTORY, history)
    write_json(RUN, {**run, "best_epoch": history.best_epoch})


def epoch_logger(epochs: int, log: Callable[[int, Metrics], None]) -> OnEpoch:
    """Log each epoch and print it on one line. One after the last of `epochs` is fine-tuning's refitted classifier."""

    def on_epoch(epoch: int, metrics: Metrics, timing: Metrics) -> None:
        log(epoch, {**metrics, **timing})
        values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        name = f"epoch {epoch}/{epochs}" if epoch <= epochs else "refitted classifier"
        print(f"{name}  {values}  {timing['train/images_per_second']:,.0f} images/s", flush=True)

    return on_epoch


def write_history(path: Path, history: History) -> None:
    """Write reports/history.csv: one row per epoch, counted from 1, one column per metric."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *history.epochs[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **metrics} for epoch, metrics in enumerate(history.epochs, start=1))
