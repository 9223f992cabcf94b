"""Where a training stands: its position, its metrics per epoch, and the error if it diverges."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from plumage.errors import TrainingError

Metrics = dict[str, float]
"""Values by MLflow metric name, such as `val/accuracy`."""
OnEpoch = Callable[[int, Metrics, Metrics], None]
"""Called after each epoch, counted from 1, with its metrics and its timings, which differ between identical runs."""


class Stateful:
    """A part of a training whose state dict has all attributes but those in `not_saved`, which its constructor sets."""

    not_saved: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """The saved attributes by name."""
        return {name: value for name, value in vars(self).items() if name not in self.not_saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        vars(self).update(state)


@dataclass
class TrainerProgress(Stateful):
    """Position and running sums of a training."""

    epoch: int = 1
    step: int = 0  # steps done in this epoch
    first_epoch: int = 1  # of the current training of a soup
    finished: bool = False
    lr: float = 0.0  # at the epoch's first step
    loss_sum: float = 0.0
    num_correct: float = 0.0
    num_samples: int = 0  # of this epoch, without those of skipped steps
    skipped_steps: int = 0  # in a row

    def __str__(self) -> str:
        return f"epoch {self.epoch}, step {self.step}"

    def add(self, loss_sum: float, num_correct: float, num_samples: int) -> None:
        """Add a finite step."""
        self.loss_sum += loss_sum
        self.num_correct += num_correct
        self.num_samples += num_samples
        self.skipped_steps = 0

    def means(self) -> tuple[float, float]:
        """Loss and accuracy of the epoch so far; NaN before its first finite step."""
        if not self.num_samples:
            return float("nan"), float("nan")
        return self.loss_sum / self.num_samples, self.num_correct / self.num_samples

    def next_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.step, self.loss_sum, self.num_correct, self.num_samples = self.epoch + 1, 0, 0.0, 0.0, 0


class StepOutcome:
    """What a step computed, on its way from the device: sum of losses, correct predictions, and so on, and its samples."""

    def __init__(self, values: Tensor, num_samples: int) -> None:
        self._values, self.num_samples = values.to("cpu", non_blocking=True), num_samples
        self._copied = torch.cuda.current_stream(values.device).record_event() if values.is_cuda else None

    def read(self) -> list[float]:
        """The values, waited for."""
        if self._copied:
            self._copied.synchronize()
        values: list[float] = self._values.tolist()
        return values


@dataclass
class History(Stateful):
    """Metrics and timings per epoch, and the epoch whose weights the model has (counted from 1)."""

    not_saved = ("val_features",)
    epochs: list[Metrics] = field(default_factory=list)
    best_epoch: int = 0
    timings: list[Metrics] = field(default_factory=list, compare=False)
    val_features: Tensor | None = None
    """The final model's features of the val photos, float32 N x F, when a probe fitted its classifier to them."""

    def append(self, metrics: Metrics, timing: Metrics) -> None:
        """Add an epoch."""
        self.epochs.append(metrics)
        self.timings.append(timing)

    def replay(self, on_epoch: OnEpoch) -> None:
        """Call `on_epoch` for all epochs."""
        for epoch, (metrics, timing) in enumerate(zip(self.epochs, self.timings, strict=True), start=1):
            on_epoch(epoch, metrics, timing)


class DivergedError(TrainingError):
    """Loss or gradient stayed non-finite. The model has the best epoch's weights, if `history` has an epoch."""

    def __init__(self, progress: TrainerProgress, history: History, loss: float, norm: float) -> None:
        best = f" (the model keeps the weights of epoch {history.best_epoch}, the best)" if history.best_epoch else ""
        super().__init__(
            f"the training loss is {loss:.3g} and its gradient norm {norm:.3g} at step {progress.step} of epoch "
            f"{progress.epoch}, after {progress.skipped_steps - 1} skipped steps; try a lower train.lr, a longer "
            f"train.warmup_epochs or train.max_grad_norm 1{best}"
        )
        self.history = history
