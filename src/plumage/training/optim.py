"""Optimiser, learning-rate schedule and moving average of the weights."""

import math
from typing import Any

import torch
from torch import nn

from plumage.config import ResolvedTrain


def build_optimizer(network: nn.Module, head: nn.Module, train: ResolvedTrain) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum over the trainable parameters of `network`.

    `head` learns at `head_lr`, the rest at `lr`; biases and norms (parameters of one dimension) have no weight decay.
    """
    in_head = {id(parameter) for parameter in head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in in_head, parameter.ndim > 1), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": train.head_lr if is_head else train.lr,
            "weight_decay": train.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]
    if train.optimizer == "sgd":
        return torch.optim.SGD(settings, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(settings, fused=True)


def warmup_cosine(
    optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up to each group's peak, then a half cosine to zero at `total_steps` (Loshchilov & Hutter 2017)."""
    warmup_steps = min(warmup_steps, total_steps - 1)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


class MovingAverage:
    """Exponential moving average of a network's floating-point parameters and buffers.

    The decay of step t is min(decay, (1 + t) / (10 + t)), so that the first steps are soon forgotten (as TensorFlow's
    ExponentialMovingAverage with num_updates).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._live = [value for value in network.state_dict().values() if value.is_floating_point()]
        self._average = [value.clone() for value in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take one step of the network in."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        torch._foreach_lerp_(self._average, self._live, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's values with the averages; a second call changes them back."""
        for live, average in zip(self._live, self._average, strict=True):
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {"steps": self._steps, "average": self._average}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._steps = state["steps"]
        torch._foreach_copy_(self._average, state["average"])
