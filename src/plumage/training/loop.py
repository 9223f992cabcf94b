"""The training loop: epochs over batches, validation after each, early stopping, the best epoch kept.

It trains any network on any batches: photos through an EfficientNet, or stored features through its classifier (probe).
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from plumage.config import ResolvedTrain
from plumage.errors import TrainingError
from plumage.progress import track
from plumage.training.optim import MovingAverage, build_optimizer, warmup_cosine

Batch = tuple[torch.Tensor, torch.Tensor]
"""The network's input, N x ..., and the labels, int64 N, both on the device."""
OnEpoch = Callable[[int, dict[str, float], float], None]
"""Called after each epoch, counted from 1, with its metrics by their MLflow names and its photos per second."""


@dataclass
class Batches:
    """Where an epoch's batches come from. `of(epoch)` is their iterator."""

    of: Callable[[int], Iterable[Batch]]
    per_epoch: int
    photos: int


@dataclass
class History:
    """What each epoch gave, by MLflow's metric names, and the epoch whose weights were kept (counted from 1)."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


def choose_device(wanted: str) -> torch.device:
    """The device named, or for `auto` the best at hand: cuda, mps, cpu. TrainingError when it is not there."""
    if wanted == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    device = torch.device(wanted)
    there = {
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, True):
        raise TrainingError(f"train.device: got {wanted}, which this machine lacks; takes auto or cpu here")
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where asked for; `auto` is bf16 on CUDA and fp32 elsewhere."""
    bf16 = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


def fit(
    network: nn.Module,
    head: nn.Module,
    train_batches: Batches,
    val_batches: Batches,
    train: ResolvedTrain,
    device: torch.device,
    on_epoch: OnEpoch,
) -> History:
    """Train `network` in place and leave it, in eval mode, with the weights of the best epoch.

    The best epoch has the highest val accuracy, then the lowest val loss; training stops after `train.patience` epochs
    without a better one. `head` is the part of `network` that learns at `train.head_lr`. TrainingError when the loss is
    no longer a finite number.
    """
    optimizer = build_optimizer(network, head, train)
    steps = train.epochs * train_batches.per_epoch
    schedule = warmup_cosine(optimizer, round(train.warmup_epochs * train_batches.per_epoch), steps)
    average = MovingAverage(network, train.ema) if train.ema else None
    history = History()
    best: tuple[float, float] | None = None
    best_weights: dict[str, torch.Tensor] = {}
    for epoch in range(1, train.epochs + 1):
        started = time.perf_counter()
        lr = float(schedule.get_last_lr()[0])
        loss = _train_epoch(network, train_batches, epoch, optimizer, schedule, average, train, device)
        speed = train_batches.photos / (time.perf_counter() - started)
        if average:
            average.swap()
        val_loss, val_accuracy = validate(network, val_batches, train, device)
        metrics = {"train/loss": loss, "train/lr": lr, "val/loss": val_loss, "val/accuracy": val_accuracy}
        history.epochs.append(metrics)
        if best is None or (val_accuracy, -val_loss) > best:
            best, history.best_epoch = (val_accuracy, -val_loss), epoch
            best_weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        if average:
            average.swap()
        on_epoch(epoch, metrics, speed)
        if epoch - history.best_epoch >= train.patience:
            break
    network.load_state_dict(best_weights)
    network.eval()
    return history


def _train_epoch(
    network: nn.Module,
    batches: Batches,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    average: MovingAverage | None,
    train: ResolvedTrain,
    device: torch.device,
) -> float:
    """One pass over the training batches; the mean loss a photo."""
    network.train()
    if train.freeze_norm:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    total = torch.zeros((), device=device, dtype=torch.float64)
    for inputs, labels in track(batches.of(epoch), f"epoch {epoch}/{train.epochs}", batches.per_epoch):
        with autocast(device, train.precision):
            logits = network(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=train.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if train.clip_norm:
            nn.utils.clip_grad_norm_(network.parameters(), train.clip_norm)
        optimizer.step()
        schedule.step()
        if average:
            average.update()
        total += loss.detach().double() * len(labels)
    mean = float(total) / batches.photos
    if not torch.isfinite(torch.tensor(mean)):
        raise TrainingError(
            f"the training loss became {mean} in epoch {epoch}; try a lower train.lr or train.clip_norm 1"
        )
    return mean


@torch.inference_mode()
def validate(network: nn.Module, batches: Batches, train: ResolvedTrain, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `network`, in eval mode, over `batches`."""
    network.eval()
    loss = torch.zeros((), device=device, dtype=torch.float64)
    right = torch.zeros((), device=device, dtype=torch.int64)
    for inputs, labels in batches.of(0):
        with autocast(device, train.precision):
            logits = network(inputs).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").double()
        right += (logits.argmax(1) == labels).sum()
    return float(loss) / batches.photos, int(right) / batches.photos
