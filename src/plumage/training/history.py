"""Metrics per epoch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Metrics = dict[str, float]
"""Values by MLflow metric name, such as `val/accuracy`."""
OnEpoch = Callable[[int, Metrics, Metrics], None]
"""Called after each epoch, counted from 1, with its metrics and its timings, which differ between identical runs."""


@dataclass
class History:
    """Metrics and timings per epoch, and the epoch whose weights the model has (counted from 1)."""

    epochs: list[Metrics] = field(default_factory=list)
    best_epoch: int = 0
    timings: list[Metrics] = field(default_factory=list, compare=False)
    val_features: torch.Tensor | None = None
    """The final model's features of the val photos, float32 N x F, when a probe fitted its classifier to them."""

    def append(self, metrics: Metrics, timing: Metrics) -> None:
        """Add an epoch."""
        self.epochs.append(metrics)
        self.timings.append(timing)

    def replay(self, on_epoch: OnEpoch) -> None:
        """Call `on_epoch` for all epochs."""
        for epoch, (metrics, timing) in enumerate(zip(self.epochs, self.timings, strict=True), start=1):
            on_epoch(epoch, metrics, timing)

    def state_dict(self) -> dict[str, Any]:
        """Everything but `val_features`."""
        return {"epochs": self.epochs, "best_epoch": self.best_epoch, "timings": self.timings}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        self.epochs, self.best_epoch, self.timings = state["epochs"], state["best_epoch"], state["timings"]
