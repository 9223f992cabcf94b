"""Early stopping: keep the best epoch's weights, and stop once they no longer improve."""

from typing import Any

from torch import nn

from plumage.training.history import Metrics
from plumage.training.soup import Weights, clone_weights


def score(metrics: Metrics) -> tuple[float, float]:
    """Ranks epochs: higher val accuracy wins, then lower val loss."""
    return metrics["val/accuracy"], -metrics["val/loss"]


class EarlyStopping:
    """Tracks the best epoch by `score`, and stops after `patience` epochs without a better one."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._best_score: tuple[float, float] | None = None
        self._epochs_without_improvement = 0
        self.best_weights: Weights = {}
        """Empty before the first epoch."""

    def update(self, metrics: Metrics, model: nn.Module) -> bool:
        """Compare an epoch with the best so far. Returns whether it is better, and then keeps its weights."""
        improved = self._best_score is None or score(metrics) > self._best_score
        if improved:
            self._best_score, self.best_weights = score(metrics), clone_weights(model)
        self._epochs_without_improvement = 0 if improved else self._epochs_without_improvement + 1
        return improved

    @property
    def should_stop(self) -> bool:
        """Whether `patience` has run out."""
        return self._epochs_without_improvement >= self._patience

    def reset_patience(self) -> None:
        """Count epochs without improvement from 0 again, and keep the best."""
        self._epochs_without_improvement = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything but `patience`."""
        return {
            "best_score": self._best_score,
            "best_weights": self.best_weights,
            "epochs_without_improvement": self._epochs_without_improvement,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""
        self._best_score, self.best_weights = state["best_score"], state["best_weights"]
        self._epochs_without_improvement = state["epochs_without_improvement"]
