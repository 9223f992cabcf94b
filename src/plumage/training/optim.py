"""Optimizer, learning-rate schedule and moving average of the weights."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from plumage.config import ResolvedTrain
from plumage.training.state import Stateful


def build_optimizer(model: nn.Module, head: nn.Module, train: ResolvedTrain) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) or SGD with Nesterov momentum for the trainable parameters of `model`.

    `head` learns at `head_lr`, the rest at `lr`. Biases and norms (one-dimensional parameters) get no weight decay.
    """
    in_head = {id(parameter) for parameter in head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in in_head, parameter.ndim > 1), []).append(parameter)
    settings = []
    for (is_head, decays), parameters in groups.items():
        lr, weight_decay = train.head_lr if is_head else train.lr, train.weight_decay if decays else 0.0
        settings.append({"params": parameters, "lr": lr, "weight_decay": weight_decay})
    if train.optimizer == "adamw":
        return torch.optim.AdamW(settings, fused=True, capturable=next(model.parameters()).is_cuda)
    optimizer = torch.optim.SGD(settings, momentum=0.9, nesterov=True, fused=True)
    for parameter in model.parameters():  # the first step may be skipped, and torch would leave this uninitialised
        if parameter.requires_grad:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def warmup_cosine(optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: int) -> LambdaLR:
    """Linear warm-up to each group's peak, then a half cosine to zero at `total_steps` (Loshchilov & Hutter 2017)."""
    warmup_steps = min(warmup_steps, total_steps - 1)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))))

    # Torch expects an optimizer step before each scheduler step; the trainer may skip the very first one.
    warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
    return LambdaLR(optimizer, factor)


class WeightUpdate:
    """Clips the gradients, and steps a fused optimizer: AdamW on a GPU as a CUDA graph, from the second time on."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float, device: torch.device
    ) -> None:
        self._parameters, self._optimizer, self._max_norm = list(model.parameters()), optimizer, max_norm
        self._records = device.type == "cuda" and isinstance(optimizer, torch.optim.AdamW)
        self._lrs = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._norm, self._skips, self._calls = torch.zeros((), device=device), torch.zeros((), device=device), 0
        optimizer.found_inf = self._skips  # type: ignore[attr-defined]  # torch.amp.GradScaler sets it, too
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, norm: Tensor, is_finite: Tensor, recorded: bool) -> None:
        """Update the weights if `is_finite`, given the gradients' norm.

        `recorded`: the gradients are where they were at the last such call.
        """
        self._skips.copy_(~is_finite)
        if not self._records:
            self._step(norm)
            return
        groups = self._optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group, place, rate in zip(groups, self._lrs, rates, strict=True):
            group["lr"] = place.fill_(rate)  # a graph reads it there
        self._norm.copy_(norm)
        if recorded and self._graph is None and self._calls:  # the first call sets up the optimizer's state
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._step(self._norm)
        if recorded and self._graph is not None:
            self._graph.replay()
        else:
            self._step(self._norm)
        self._calls += recorded
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def _step(self, norm: Tensor) -> None:
        if self._max_norm:
            nn.utils.clip_grads_with_norm_(self._parameters, self._max_norm, norm)
        self._optimizer.step()


class ExponentialMovingAverage(Stateful):
    """Exponential moving average (EMA) of a model's floating-point parameters and buffers.

    Step t has the decay min(decay, (1 + t) / (10 + t)), as TensorFlow's with num_updates, to forget the first steps.
    """

    not_saved = ("decay", "weights")

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.weights = [value for value in model.state_dict().values() if value.is_floating_point()]
        self.average = [value.clone() for value in self.weights]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights after an optimizer step."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        torch._foreach_lerp_(self.average, self.weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights until the block ends."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, average in zip(self.weights, self.average, strict=True):
            previous = weight.clone()
            weight.copy_(average)
            average.copy_(previous)
