"""Early stopping: keep the best epoch's weights, and stop once they no longer improve."""

from torch import nn

from plumage.training.soup import Weights, clone_weights
from plumage.training.state import Metrics, Stateful


def score(metrics: Metrics) -> tuple[float, float]:
    """Ranks epochs: higher val accuracy wins, then lower val loss."""
    return metrics["val/accuracy"], -metrics["val/loss"]


class EarlyStopping(Stateful):
    """Tracks the best epoch by `score`, and stops after `patience` epochs without a better one."""

    not_saved = ("patience",)

    def __init__(self, patience: int) -> None:
        self.patience, self.epochs_without_improvement = patience, 0
        self.best_score: tuple[float, float] | None = None
        self.best_weights: Weights = {}  # empty before the first epoch

    def update(self, metrics: Metrics, model: nn.Module) -> bool:
        """Compare an epoch with the best so far. Returns whether it is better, and then keeps its weights."""
        self.epochs_without_improvement += 1
        if self.best_score is not None and not score(metrics) > self.best_score:  # NaN is no improvement
            return False
        self.best_score, self.best_weights = score(metrics), clone_weights(model)
        self.reset_patience()
        return True

    @property
    def should_stop(self) -> bool:
        """Whether `patience` has run out."""
        return self.epochs_without_improvement >= self.patience

    def reset_patience(self) -> None:
        """Count epochs without improvement from 0 again, and keep the best."""
        self.epochs_without_improvement = 0
