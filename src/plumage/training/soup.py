"""Averaging in weight space: model soups (Wortsman et al. 2022, arXiv 2203.05482) and WiSE-FT (arXiv 2109.01903)."""

import torch
from torch import Tensor, nn

from plumage.training.state import Stateful

Weights = dict[str, Tensor]
"""A state dict."""


class ModelSoup(Stateful):
    """Uniform soup: the mean of the final weights of `size` trainings, all started from `model`'s weights."""

    not_saved = ("size",)

    def __init__(self, model: nn.Module, size: int) -> None:
        self.size, self.count = size, 0
        self.initial_weights = clone_weights(model)
        self.mean: Weights = {}  # empty before the first training ends

    @property
    def is_complete(self) -> bool:
        """Whether all trainings are in the mean."""
        return self.count >= self.size

    @torch.no_grad()
    def add(self, model: nn.Module) -> None:
        """Add the final weights of a training. Integer buffers stay those of the first."""
        self.count += 1
        self.mean = self.mean or clone_weights(model)
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 / self.count)


@torch.no_grad()
def wise_ft(model: nn.Module, initial_weights: Weights, alpha: float) -> None:
    """Set `model` to (1 - alpha) * initial weights + alpha * its own (WiSE-FT)."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.lerp(initial_weights[name], value, alpha))


def clone_weights(model: nn.Module) -> Weights:
    """A copy of `model`'s state dict."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
