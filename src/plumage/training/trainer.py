"""The training loop: epochs over batches, validation after each, early stopping, the best epoch kept.

It trains any network on any batches: photos through an EfficientNet, or stored features through its classifier (probe).
Interrupted anywhere, it goes on from its last checkpoint, and ends with the weights that it would have ended with.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from plumage.common.progress import Progress
from plumage.config import ResolvedTrain
from plumage.errors import TrainingError
from plumage.training.batches import Batch, Batches
from plumage.training.checkpoints import Checkpoints, State
from plumage.training.distributed import SINGLE_PROCESS, ProcessGroup, sync_norms
from plumage.training.hardware import autocast, compiles, micro_batch_size
from plumage.training.memory import advice_on_memory, is_out_of_memory
from plumage.training.optim import MovingAverage, build_optimizer, warmup_cosine
from plumage.training.signals import Interrupts
from plumage.training.validate import validate

OnEpoch = Callable[[int, dict[str, float], dict[str, float]], None]
"""Called after each epoch, counted from 1, with its metrics by their MLflow names, and those that no two runs share: times."""


@dataclass
class History:
    """What each epoch gave, by MLflow's metric names, and the epoch whose weights were kept (counted from 1)."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    val_features: torch.Tensor | None = None
    """What the network that was kept makes of the val photos, float32 N x F, where a classifier was solved for on it."""


def quality(metrics: dict[str, float]) -> tuple[float, float]:
    """What makes one epoch better than another: val accuracy, then val loss."""
    return metrics["val/accuracy"], -metrics["val/loss"]


class Diverged(TrainingError):
    """The loss is no longer a finite number; the network has the weights of the best epoch, if `history` has one."""

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


class Trainer:
    """A training of `network` in place, or `soup` of them from the weights `start` one after the other, and where it stands.

    The best epoch has the highest val accuracy, then the lowest val loss; a training stops after `train.patience` epochs
    without a better one. `head` is the part of `network` that learns at `train.head_lr`.

    The state of `phase` in `checkpoints` is gone on from, and saved after each epoch, when it is due, and before Ctrl-C or
    SIGTERM takes effect. `on_epoch` is called again for the epochs done before; an epoch that it was called for is in the
    last state. Every process of `team` calls this alike, only the first with `checkpoints`.
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
        group: ProcessGroup = SINGLE_PROCESS,
        soup: int | None = None,
    ) -> None:
        self.network, self.head, self.train, self.device, self.on_epoch = network, head, train, device, on_epoch
        self.train_batches, self.val_batches = train_batches, val_batches
        self.checkpoints, self.phase, self.group = checkpoints, phase, group
        self.trainings, self.ends_with_mean = soup or 1, soup is not None
        self.steps = -(-train_batches.per_epoch // train.grad_accumulation)
        self.start = _copy(network.state_dict()) if soup else {}
        self._begin()
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self.kept_buffers = [buffer.clone() for buffer in self.buffers]
        self.forward = self._forward()
        self.history = History()
        self.timings: list[dict[str, float]] = []
        self.best: tuple[float, float] | None = None
        self.best_weights: dict[str, torch.Tensor] = {}
        self.trained, self.began = 0, 1
        """Trainings that are done, and the first epoch of this one."""
        self.mean: dict[str, torch.Tensor] = {}
        """Of the weights that those came to."""
        self.epoch, self.step = 1, 0
        self.loss, self.right = 0.0, 0.0
        self.lr = float(self.schedule.get_last_lr()[0])
        self.photos = 0
        """Those of this epoch whose steps were good."""
        self.bad_steps = 0

    def _begin(self) -> None:
        """What a training starts with anew."""
        self.optimizer = build_optimizer(self.network, self.head, self.train)
        warmup = round(self.train.warmup_epochs * self.steps)
        self.schedule = warmup_cosine(self.optimizer, warmup, self.train.epochs * self.steps)
        self.average = MovingAverage(self.network, self.train.ema_decay) if self.train.ema_decay else None

    def _forward(self) -> Any:
        """The network as it is called in training."""
        forward: Any = self.network
        if compiles(self.device, self.train.compile):
            forward = torch.compile(forward)
        if self.group.size > 1:
            if self.train.sync_norm and not self.train.freeze_norm:
                sync_norms(self.network)
            devices = [torch.cuda.current_device()] if self.device.type == "cuda" else None
            forward = DistributedDataParallel(forward, device_ids=devices, broadcast_buffers=False)
        return forward

    def run(self) -> History:
        """Do all epochs that are left. The network ends, in eval mode, with the weights of the best epoch, or, of a soup, with the mean
        of the trainings' last ones (Wortsman et al. 2022, arXiv 2203.05482).

        Raises:
            Diverged: more than `train.max_bad_steps` steps in a row had a loss or gradient that is no finite number.
            TrainingError: a step does not fit in memory; the message says which batch size would.
        """
        try:
            self._run()
        except BaseException:
            self.take_best()
            raise
        if self.ends_with_mean:
            self.network.load_state_dict(self.mean)
            self.network.eval()
        else:
            self.take_best()
        return self.history

    def take_best(self) -> None:
        """Give the network, in eval mode, the weights of the best epoch so far, if there is one."""
        if self.best_weights:
            self.network.load_state_dict(self.best_weights)
        self.network.eval()

    def _run(self) -> None:
        saved = self.checkpoints.load(self.phase, self.device) if self.checkpoints else None
        if state := self.group.broadcast(saved):
            self._restore(state)
            for epoch, (metrics, timing) in enumerate(zip(self.history.epochs, self.timings, strict=True), start=1):
                self.on_epoch(epoch, metrics, timing)
            if self.group.is_main:
                print(f"{self.phase}: goes on from epoch {self.epoch}, step {self.step}", flush=True)
        with Interrupts() as self.interrupts:
            while self.trained < self.trainings:
                self._train_epoch()
                self._validate()
                self._leave_if_asked()

    def _train_epoch(self) -> None:
        """The steps that are left of this epoch."""
        train, first = self.train, self.step
        set_training(self.network, train.freeze_norm)
        if not first:
            self.lr = float(self.schedule.get_last_lr()[0])
        started, self.waited, before = time.perf_counter(), 0.0, self.photos
        batches = iter(self.train_batches.of(self.epoch, first * train.grad_accumulation))
        name = f"epoch {self.epoch}/{self.trainings * train.epochs}"
        progress = Progress(name, self.steps, done=first, shown=self.group.is_main)
        with progress:
            while self.step < self.steps:
                self._step(batches)
                passed = time.perf_counter() - started
                if self.photos:
                    progress.note = (
                        f"loss {self.loss / self.photos:.3f}, accuracy {self.right / self.photos:.3f}, "
                        f"{(self.photos - before) / passed:.0f} images/s"
                    )
                progress.advance()
                self._leave_if_asked()
                if self.checkpoints and self.checkpoints.due:
                    self._save()
        passed = time.perf_counter() - started
        self.timing = {
            "train/images_per_second": (self.photos - before) / passed,  # of the photos seen in this process's life
            "train/waiting_for_photos": self.waited / passed,
        }

    def _step(self, batches: Iterator[Batch]) -> None:
        """One step of the optimiser; one whose loss or gradient is no finite number changes nothing."""
        train, group = self.train, self.group
        first = self.step * train.grad_accumulation
        micro_batches = range(first, min(first + train.grad_accumulation, self.train_batches.per_epoch))
        photos = sum(self.train_batches.photos_of(batch) for batch in micro_batches)
        torch.manual_seed(_seed(train.seed, self.epoch, self.step, group.rank))
        if self.buffers:
            torch._foreach_copy_(self.kept_buffers, self.buffers)
        self.optimizer.zero_grad(set_to_none=True)
        losses = torch.zeros((), device=self.device, dtype=torch.float32)
        right = torch.zeros((), device=self.device, dtype=torch.int64)
        for batch in micro_batches:
            waiting = time.perf_counter()
            inputs, labels = next(batches)
            self.waited += time.perf_counter() - waiting
            size = micro_batch_size(self.device, train)
            for start in range(0, len(inputs), size):
                last = batch == micro_batches[-1] and start + size >= len(inputs)
                with self.forward.no_sync() if group.size > 1 and not last else nullcontext():
                    part = slice(start, start + size)
                    loss, hits = self._forward_and_backward(inputs[part], labels[part], photos)
                losses += loss
                right += hits
        group.all_reduce_mean(self.buffers if not train.freeze_norm else [])
        norm = nn.utils.get_total_norm([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        loss_sum, hits_sum, asked = group.all_reduce_sum(
            float(losses), float(right), float(bool(self.interrupts.asked))
        )
        if asked:
            self.interrupts.ask()
        if math.isfinite(loss_sum) and torch.isfinite(norm):
            if train.max_grad_norm:
                nn.utils.clip_grads_with_norm_(self.parameters, train.max_grad_norm, norm)
            self.optimizer.step()
            if self.average:
                self.average.update()
            self.loss += loss_sum
            self.right += hits_sum
            self.photos += photos
            self.bad_steps = 0
        else:
            if self.buffers:
                torch._foreach_copy_(self.buffers, self.kept_buffers)
            self.bad_steps += 1
            if self.bad_steps > train.max_bad_steps or (self.step + 1 == self.steps and not self.photos):
                raise Diverged(self._advice(loss_sum / photos, norm.item()), self.history)
        with warnings.catch_warnings():
            # Torch would warn where the very first step is skipped.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            self.schedule.step()
        self.step += 1

    def _forward_and_backward(
        self, inputs: torch.Tensor, labels: torch.Tensor, photos: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of this part's losses and its number of right answers; `photos` are those of the whole step."""
        fits = True
        try:
            with autocast(self.device, self.train.precision):
                logits = self.forward(inputs).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=self.train.label_smoothing, reduction="sum")
            (loss * (self.group.size / photos)).backward()  # the processes' gradients are averaged
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        if not fits:  # not above, where the error holds on to what was allocated
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingError(advice_on_memory(self.network, inputs, self.train.precision))
        return loss.detach(), (logits.argmax(1) == labels).sum()

    def _advice(self, loss: float, norm: float) -> str:
        best = self.history.best_epoch
        return (
            f"the training loss is {loss:.3g} and its gradient's norm {norm:.3g} at step {self.step + 1} of epoch {self.epoch}, "
            f"after {self.bad_steps - 1} skipped steps; try a lower train.lr, a longer train.warmup_epochs or train.max_grad_norm 1"
            + (f" (the weights of epoch {best}, the best, are kept)" if best else "")
        )

    def _validate(self) -> None:
        """Judge the epoch that is done, and go to the next; a Ctrl-C meanwhile leaves that to a later time."""
        if self.average:
            self.average.swap()
        stop = (lambda: bool(self.interrupts.asked)) if self.group.size == 1 else (lambda: False)
        judged = validate(self.network, self.val_batches, self.train, self.device, self.group, stop)
        if judged:
            loss, accuracy = judged
            metrics = {
                "train/loss": self.loss / self.photos,
                "train/accuracy": self.right / self.photos,
                "train/lr": self.lr,
                "val/loss": loss,
                "val/accuracy": accuracy,
            }
            self.history.epochs.append(metrics)
            self.timings.append(self.timing)
            if self.best is None or quality(metrics) > self.best:
                self.best, self.history.best_epoch = quality(metrics), self.epoch
                self.best_weights = _copy(self.network.state_dict())
            waited = self.epoch - max(self.history.best_epoch, self.began - 1)
            over = self.epoch + 1 - self.began == self.train.epochs or waited >= self.train.patience
            if over:
                self.trained += 1
                self._add_to_mean()
        if self.average:
            self.average.swap()
        if judged:
            done = self.epoch
            self.epoch, self.step, self.photos, self.loss, self.right = self.epoch + 1, 0, 0, 0.0, 0.0
            if over and self.trained < self.trainings:
                self.began = self.epoch
                self.network.load_state_dict(self.start)
                self._begin()
            self._save()  # before on_epoch, so that what it was told is never done again
            self.on_epoch(done, metrics, self.timing)

    def _add_to_mean(self) -> None:
        """Take the weights that a training came to in."""
        weights = self.network.state_dict()
        if not self.mean:
            self.mean = _copy(weights)
        for name, value in self.mean.items():
            if value.is_floating_point():
                value.lerp_(weights[name], 1 / self.trained)

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
            "epochs": self.history.epochs,
            "best_epoch": self.history.best_epoch,
            "timings": self.timings,
            "best": self.best,
            "best_weights": self.best_weights,
            "start": self.start,
            "mean": self.mean,
            "trainings": (self.trained, self.began),
            "at": (self.epoch, self.step, self.lr, self.photos, self.bad_steps, self.loss, self.right),
        }

    def _restore(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average:
            self.average.restore(state["average"])
        self.history.epochs, self.history.best_epoch = state["epochs"], state["best_epoch"]
        self.timings, self.best, self.best_weights = state["timings"], state["best"], state["best_weights"]
        self.start, self.mean, (self.trained, self.began) = state["start"], state["mean"], state["trainings"]
        self.epoch, self.step, self.lr, self.photos, self.bad_steps, self.loss, self.right = state["at"]


def _copy(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


def set_training(network: nn.Module, freeze_norm: bool) -> None:
    """Put `network` in training mode, but for its batch norms where they keep their statistics."""
    network.train()
    if freeze_norm:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _seed(*parts: int) -> int:
    """One seed of many numbers: what a step draws (dropout, stochastic depth) depends on nothing before it."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
