"""The training loop: epochs over batches, validation after each, early stopping, the best epoch kept.

It trains any network on any batches: photos through an EfficientNet, or stored features through its classifier (probe).
Interrupted anywhere, it goes on from its last checkpoint, and ends with the weights that it would have ended with.
"""

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from plumage.config import ResolvedTrain
from plumage.errors import TrainingError
from plumage.progress import Progress
from plumage.training.checkpoints import Checkpoints, State
from plumage.training.interrupts import Interrupts
from plumage.training.optim import MovingAverage, build_optimizer, warmup_cosine

Batch = tuple[torch.Tensor, torch.Tensor]
"""The network's input, N x ..., and the labels, int64 N, both on the device."""
OnEpoch = Callable[[int, dict[str, float], float], None]
"""Called after each epoch, counted from 1, with its metrics by their MLflow names and its photos per second."""


@dataclass
class Batches:
    """Where an epoch's batches come from. `of(epoch, first)` gives them from number `first`, counted from 0."""

    of: Callable[[int, int], Iterable[Batch]]
    per_epoch: int
    photos: int


@dataclass
class History:
    """What each epoch gave, by MLflow's metric names, and the epoch whose weights were kept (counted from 1)."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


class Diverged(TrainingError):
    """The loss is no longer a finite number; the network has the weights of the best epoch, if `history` has one."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


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


class Fit:
    """A training of `network` in place, and where it stands. `run` leaves the network, in eval mode, with the weights of the
    best epoch.

    The best epoch has the highest val accuracy, then the lowest val loss; training stops after `train.patience` epochs
    without a better one. `head` is the part of `network` that learns at `train.head_lr`.

    The state of `phase` in `checkpoints` is gone on from, and saved after each epoch, when it is due, and before Ctrl-C or
    SIGTERM takes effect. `on_epoch` is called again for the epochs done before; an epoch that it was called for is in the
    last state.
    """

    def __init__(
        self,
        network: nn.Module,
        head: nn.Module,
        train_batches: Batches,
        val_batches: Batches,
        train: ResolvedTrain,
        device: torch.device,
        on_epoch: OnEpoch,
        checkpoints: Checkpoints | None = None,
        phase: str = "network",
    ) -> None:
        self.network, self.train, self.device, self.on_epoch = network, train, device, on_epoch
        self.train_batches, self.val_batches = train_batches, val_batches
        self.checkpoints, self.phase = checkpoints, phase
        self.optimizer = build_optimizer(network, head, train)
        steps = train.epochs * train_batches.per_epoch
        warmup = round(train.warmup_epochs * train_batches.per_epoch)
        self.schedule = warmup_cosine(self.optimizer, warmup, steps)
        self.average = MovingAverage(network, train.ema) if train.ema else None
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self.kept_buffers = [buffer.clone() for buffer in self.buffers]
        self.history = History()
        self.speeds: list[float] = []
        self.best: tuple[float, float] | None = None
        self.best_weights: dict[str, torch.Tensor] = {}
        self.epoch, self.step = 1, 0
        self.loss = torch.zeros((), device=device, dtype=torch.float64)
        self.lr = float(self.schedule.get_last_lr()[0])
        self.photos = 0
        """Those of this epoch whose steps were good."""
        self.bad_steps = 0

    def run(self) -> History:
        """Do all epochs that are left.

        Raises:
            Diverged: more than `train.max_bad_steps` steps in a row had a loss or gradient that is no finite number.
        """
        try:
            self._run()
        finally:
            if self.best_weights:
                self.network.load_state_dict(self.best_weights)
            self.network.eval()
        return self.history

    def _run(self) -> None:
        if self.checkpoints and (state := self.checkpoints.load(self.phase, self.device)):
            self._restore(state)
            for epoch, (metrics, speed) in enumerate(zip(self.history.epochs, self.speeds, strict=True), start=1):
                self.on_epoch(epoch, metrics, speed)
            print(f"{self.phase}: goes on from epoch {self.epoch}, step {self.step}", flush=True)
        with Interrupts() as self.interrupts:
            while self.epoch <= self.train.epochs and self.epoch - 1 - self.history.best_epoch < self.train.patience:
                self._train_epoch()
                self._validate()
                self._leave_if_asked()

    def _train_epoch(self) -> None:
        """The steps that are left of this epoch."""
        train, batches, first = self.train, self.train_batches, self.step
        self.network.train()
        if train.freeze_norm:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        if not first:
            self.lr = float(self.schedule.get_last_lr()[0])
        self.started = time.perf_counter()
        with Progress(f"epoch {self.epoch}/{train.epochs}", batches.per_epoch, done=first) as progress:
            for inputs, labels in batches.of(self.epoch, first):
                self._step(inputs, labels)
                progress.advance()
                self._leave_if_asked()
                if self.checkpoints and self.checkpoints.due:
                    self._save()
        share = 1 - first / batches.per_epoch  # of the epoch, in this process
        self.speed = share * batches.photos / (time.perf_counter() - self.started) if share else 0.0

    def _step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        """One step of the optimiser; one whose loss or gradient is no finite number changes nothing."""
        train = self.train
        if self.buffers:
            torch._foreach_copy_(self.kept_buffers, self.buffers)
        with autocast(self.device, train.precision):
            logits = self.network(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=train.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.get_total_norm([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        if torch.isfinite(loss + norm):
            if train.clip_norm:
                nn.utils.clip_grads_with_norm_(self.parameters, train.clip_norm, norm)
            self.optimizer.step()
            if self.average:
                self.average.update()
            self.loss += loss.detach().double() * len(labels)
            self.photos += len(labels)
            self.bad_steps = 0
        else:
            if self.buffers:
                torch._foreach_copy_(self.buffers, self.kept_buffers)
            self.bad_steps += 1
            last_and_none_good = self.step + 1 == self.train_batches.per_epoch and not self.photos
            if self.bad_steps > train.max_bad_steps or last_and_none_good:
                raise Diverged(self._advice(loss.item(), norm.item()), self.history)
        with warnings.catch_warnings():
            # Torch would warn where the very first step is skipped.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self.schedule.step()
        self.step += 1

    def _advice(self, loss: float, norm: float) -> str:
        best = self.history.best_epoch
        return (
            f"the training loss is {loss:.3g} and its gradient's norm {norm:.3g} at step {self.step + 1} of epoch {self.epoch}, "
            f"after {self.bad_steps - 1} skipped steps; try a lower train.lr, a longer train.warmup_epochs or train.clip_norm 1"
            + (f" (models/ has the weights of epoch {best}, the best)" if best else "")
        )

    def _validate(self) -> None:
        """Judge the epoch that is done, and go to the next."""
        if self.average:
            self.average.swap()
        loss, accuracy = validate(self.network, self.val_batches, self.train, self.device)
        mean = float(self.loss) / self.photos
        metrics = {"train/loss": mean, "train/lr": self.lr, "val/loss": loss, "val/accuracy": accuracy}
        self.history.epochs.append(metrics)
        self.speeds.append(self.speed)
        if self.best is None or (accuracy, -loss) > self.best:
            self.best, self.history.best_epoch = (accuracy, -loss), self.epoch
            self.best_weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        if self.average:
            self.average.swap()
        done = self.epoch
        self.epoch, self.step, self.photos = self.epoch + 1, 0, 0
        self.loss.zero_()
        self._save()  # before on_epoch, so that what it was told is never done again
        self.on_epoch(done, metrics, self.speed)

    def _leave_if_asked(self) -> None:
        """Obey a Ctrl-C or SIGTERM that came meanwhile, with a checkpoint."""
        if self.interrupts.asked:
            if self._save():
                print(
                    f"a checkpoint is saved; the same command goes on from epoch {self.epoch}, step {self.step}",
                    flush=True,
                )
            self.interrupts.obey()

    def _save(self) -> bool:
        return self.checkpoints is not None and self.checkpoints.save(self.phase, self._state())

    def _state(self) -> State:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state() if self.average else None,
            "random": _random_state(self.device),
            "epochs": self.history.epochs,
            "best_epoch": self.history.best_epoch,
            "speeds": self.speeds,
            "best": self.best,
            "best_weights": self.best_weights,
            "at": (self.epoch, self.step, self.lr, self.photos, self.bad_steps),
            "loss": self.loss,
        }

    def _restore(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average:
            self.average.restore(state["average"])
        self.history.epochs, self.history.best_epoch = state["epochs"], state["best_epoch"]
        self.speeds, self.best, self.best_weights = state["speeds"], state["best"], state["best_weights"]
        self.epoch, self.step, self.lr, self.photos, self.bad_steps = state["at"]
        self.loss = state["loss"]
        _set_random_state(self.device, state["random"])


def _random_state(device: torch.device) -> dict[str, Any]:
    """Where torch's random numbers stand, which dropout and stochastic depth draw from."""
    on_device = {"cuda": torch.cuda.get_rng_state, "mps": torch.mps.get_rng_state}.get(device.type)
    return {"cpu": torch.get_rng_state(), device.type: on_device() if on_device else torch.get_rng_state()}


def _set_random_state(device: torch.device, state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    set_on_device = {"cuda": torch.cuda.set_rng_state, "mps": torch.mps.set_rng_state}.get(device.type)
    if set_on_device:
        set_on_device(state[device.type].cpu())


@torch.inference_mode()
def validate(network: nn.Module, batches: Batches, train: ResolvedTrain, device: torch.device) -> tuple[float, float]:
    """Mean cross-entropy and accuracy of `network`, in eval mode, over `batches`."""
    network.eval()
    loss = torch.zeros((), device=device, dtype=torch.float64)
    right = torch.zeros((), device=device, dtype=torch.int64)
    for inputs, labels in batches.of(0, 0):
        with autocast(device, train.precision):
            logits = network(inputs).float()
        loss += F.cross_entropy(logits, labels, reduction="sum").double()
        right += (logits.argmax(1) == labels).sum()
    return float(loss) / batches.photos, int(right) / batches.photos
