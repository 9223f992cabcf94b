"""reports/history.csv: epoch, then the metrics by their MLflow names."""

import csv
from pathlib import Path

from plumage.files import atomic_path
from plumage.training.loop import History


def epoch_line(epoch: int, epochs: int, metrics: dict[str, float], speed: float) -> str:
    """An epoch in one line, for the terminal; `speed` in photos a second."""
    shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    return f"epoch {epoch}/{epochs}  {shown}  {speed:.0f} images/s"


def write_history(path: Path, history: History) -> None:
    """A row an epoch, counted from 1."""
    with atomic_path(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", *history.epochs[0]], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"epoch": epoch, **metrics} for epoch, metrics in enumerate(history.epochs, start=1))
