"""Where a training stands, and the error if it diverges."""

from dataclasses import asdict, dataclass
from typing import Any

from plumage.errors import TrainingError
from plumage.training.history import History


@dataclass
class TrainerProgress:
    """Position and running sums of a training."""

    epoch: int = 1
    step: int = 0
    """Steps done in this epoch."""
    first_epoch: int = 1
    """First epoch of the current training of a soup."""
    finished: bool = False
    lr: float = 0.0
    """Learning rate at the epoch's first step."""
    loss_sum: float = 0.0
    num_correct: float = 0.0
    num_samples: int = 0
    """Samples of this epoch, without those of skipped steps."""
    skipped_steps: int = 0
    """Steps skipped in a row."""

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

    def state_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)


class DivergedError(TrainingError):
    """Loss or gradient stayed non-finite. The model has the best epoch's weights, if `history` has an epoch."""

    def __init__(self, progress: TrainerProgress, history: History, loss: float, norm: float) -> None:
        best = f" (the model keeps the weights of epoch {history.best_epoch}, the best)" if history.best_epoch else ""
        super().__init__(
            f"the training loss is {loss:.3g} and its gradient norm {norm:.3g} at step {progress.step + 1} of epoch "
            f"{progress.epoch}, after {progress.skipped_steps - 1} skipped steps; try a lower train.lr, a longer "
            f"train.warmup_epochs or train.max_grad_norm 1{best}"
        )
        self.history = history
