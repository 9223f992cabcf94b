"""What a training leaves: the model, its curves, and the run that they belong to."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from plumage.data.store import Dataset
from plumage.data.transforms import Preprocessing
from plumage.evaluation.calibration import fit_temperature
from plumage.evaluation.predict import predict
from plumage.files import atomic_path, write_json
from plumage.models.bundle import save_model
from plumage.models.efficientnet import EfficientNet
from plumage.training.loop import History, OnEpoch


def save_results(
    root: Path,
    model: EfficientNet,
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


@torch.inference_mode()
def best_temperature(
    model: EfficientNet,
    history: History,
    dataset: Dataset,
    val: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device,
) -> float:
    """The temperature at which `model`, as `history` left it, says best how sure it may be on the photos `val`."""
    if history.val_features is None:
        logits = predict(model, dataset, val, preprocessing, device).logits
    else:
        logits = model.classifier(history.val_features).float().cpu().numpy()
    return fit_temperature(logits, dataset.targets()[list(val)])


def teller(epochs: int, log: Callable[[int, dict[str, float]], None]) -> OnEpoch:
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
