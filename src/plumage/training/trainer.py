"""The training loop: epochs of optimizer steps, each followed by validation, with early stopping and checkpoints.

It trains any classifier on any batches. Interrupted anywhere, even by kill -9, it resumes from its last checkpoint and
ends with the same weights, byte for byte, as if it had not been interrupted.
"""

import math
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from plumage.common.progress import Progress as ProgressBar
from plumage.training.batches import Batches, BatchQueue
from plumage.training.build import train_mode
from plumage.training.checkpoints import State
from plumage.training.contention import SharedCores
from plumage.training.context import TrainingContext
from plumage.training.early_stopping import EarlyStopping
from plumage.training.forward import validate
from plumage.training.gradients import GradientAccumulator
from plumage.training.optim import ExponentialMovingAverage, WeightUpdate, build_optimizer, warmup_cosine
from plumage.training.seeding import derive_seed
from plumage.training.signals import DeferredSignals
from plumage.training.soup import ModelSoup
from plumage.training.state import DivergedError, History, Metrics, StepOutcome, TrainerProgress

CHECKPOINT = "trainer"


class Trainer:
    """Trains `model` in place, its part `head` at `train.head_lr`. With a `soup`, trains once per ingredient.

    A training ends after `train.epochs`, or after `train.patience` epochs without a better one. A checkpoint is saved
    after each epoch, every `train.checkpoint_minutes`, and when Ctrl-C or SIGTERM arrives, before it takes effect.
    Epochs are checkpointed before `on_epoch` is called; on resume it is called again for all epochs so far. Every
    process of the group makes the same calls.
    """

    def __init__(
        self, model: nn.Module, head: nn.Module, train_batches: Batches, val_batches: Batches, context: TrainingContext,
        soup: ModelSoup | None = None,
    ) -> None:  # fmt: skip
        self.model, self.head, self.context, self.train = model, head, context, context.train
        self.train_batches, self.val_batches = train_batches, val_batches
        self.steps_per_epoch = -(-train_batches.num_batches // self.train.grad_accumulation)
        self.gradients = GradientAccumulator(model, context)
        self.early_stopping, self.soup = EarlyStopping(self.train.patience), soup
        self.history, self.progress = History(), TrainerProgress()
        self.signals, self.cores = DeferredSignals(), SharedCores()
        self._outcome: StepOutcome | None = None
        self._reads_late = (
            context.device.type == "cuda" and context.group.size == 1
        )  # a group stops after the same step
        self.reset_optimizer()

    def reset_optimizer(self) -> None:
        """Start anew with the optimizer, its schedule and the moving average of the weights."""
        train, total = self.train, self.train.epochs * self.steps_per_epoch
        self.optimizer = build_optimizer(self.model, self.head, train)
        self.update = WeightUpdate(self.model, self.optimizer, train.max_grad_norm, self.context.device)
        self.scheduler = warmup_cosine(self.optimizer, round(train.warmup_epochs * self.steps_per_epoch), total)
        self.ema = ExponentialMovingAverage(self.model, train.ema_decay) if train.ema_decay else None

    def fit(self) -> History:
        """Train to the end. The model ends in eval mode, with the weights of the soup or else of the best epoch.

        DivergedError if more than `train.max_bad_steps` steps in a row had a loss or gradient that was not finite,
        TrainingError if a batch does not fit in memory; the message names a size that does.
        """
        try:
            self._resume()
            with self.signals:
                while not self.progress.finished:
                    self._finish_epoch(self._train_epoch())
                    self._stop_if_requested()
        finally:
            self.load_best_weights()
        if self.soup:
            self.model.load_state_dict(self.soup.mean)
        return self.history

    def load_best_weights(self) -> None:
        """Give the model the weights of the best epoch so far, if there is one, and put it in eval mode."""
        if self.early_stopping.best_weights:
            self.model.load_state_dict(self.early_stopping.best_weights)
        self.model.eval()

    def _resume(self) -> None:
        """Continue from the last checkpoint, if there is one."""
        if state := self.context.load(CHECKPOINT):
            self.load_state_dict(state)
            self.history.replay(self.context.on_epoch)
            if self.context.group.is_main:
                print(f"resuming from {self.progress}", flush=True)

    def _train_epoch(self) -> Metrics:
        """Run the steps that are left of this epoch. Returns its timing, since this process started or resumed."""
        train, progress = self.train, self.progress
        train_mode(self.model, train.freeze_norm)
        if progress.step == 0:
            progress.lr = float(self.scheduler.get_last_lr()[0])
        num_epochs, is_main = train.epochs * (self.soup.size if self.soup else 1), self.context.group.is_main
        batches = BatchQueue(self.train_batches.iterate(progress.epoch, progress.step * train.grad_accumulation))
        started, samples_before = time.perf_counter(), progress.num_samples

        def images_per_second() -> float:
            return (progress.num_samples - samples_before) / (time.perf_counter() - started)

        name = f"epoch {progress.epoch}/{num_epochs}"
        with self.cores, ProgressBar(name, self.steps_per_epoch, done=progress.step, shown=is_main) as bar:
            while progress.step < self.steps_per_epoch:
                if self.context.device.type == "cpu":
                    self.cores.adjust()
                self._step(batches)
                loss, accuracy = progress.means()  # on a GPU without this step
                bar.note = f"loss {loss:.3f}, accuracy {accuracy:.3f}, {images_per_second():.0f} images/s"
                bar.advance()
                self._stop_if_requested()
                if self.context.checkpoints and self.context.checkpoints.due:
                    self._save()
            self._read_outcome()
        waiting = batches.waited() / (time.perf_counter() - started)
        return {"train/images_per_second": images_per_second(), "train/waiting_for_photos": waiting}

    def _step(self, batches: BatchQueue) -> None:
        """One optimizer step; it is skipped if the loss or the gradient is not finite.

        A GPU decides that itself, and what it found is read during its next step: it would stand still until then.
        """
        train, progress, group = self.train, self.progress, self.context.group
        first = progress.step * train.grad_accumulation
        numbers = range(first, min(first + train.grad_accumulation, self.train_batches.num_batches))
        num_samples = sum(map(self.train_batches.num_samples_of, numbers))
        torch.manual_seed(derive_seed(train.seed, progress.epoch, progress.step, group.rank))  # dropout, drop path
        losses, correct = self.gradients.accumulate(batches, len(numbers), num_samples)
        self._read_outcome()
        norm = self.gradients.norm()
        requested = torch.full_like(losses, self.signals.requested is not None)
        sums = group.all_reduce_sum(torch.stack([losses, correct.float(), requested]))
        is_finite = sums[0].isfinite() & norm.isfinite()
        self.gradients.restore_buffers(unless=is_finite)
        self.update(norm, is_finite, self.gradients.are_recorded)
        if self.ema:
            self.ema.update()
        self.scheduler.step()
        progress.step += 1
        self._outcome = StepOutcome(torch.cat([sums, norm[None]]), num_samples)
        if self.context.device.type == "cuda":
            batches.fetch_ahead()
        if not self._reads_late:
            self._read_outcome()

    def _read_outcome(self) -> None:
        """Take in the last step's outcome, unless it has been."""
        outcome, self._outcome = self._outcome, None
        if outcome is None:
            return
        loss_sum, num_correct, requested, norm = outcome.read()
        if requested:
            self.signals.request()
        if math.isfinite(loss_sum) and math.isfinite(norm):
            self.progress.add(loss_sum, num_correct, outcome.num_samples)
        else:
            self._count_skipped_step(loss_sum / outcome.num_samples, norm)

    def _count_skipped_step(self, loss: float, norm: float) -> None:
        progress = self.progress
        progress.skipped_steps += 1
        is_empty_epoch = progress.step == self.steps_per_epoch and not progress.num_samples
        if progress.skipped_steps > self.train.max_bad_steps or is_empty_epoch:
            raise DivergedError(progress, self.history, loss, norm)

    def _finish_epoch(self, timing: Metrics) -> None:
        """Validate, and move to the next epoch; a signal during validation leaves both for after the restart."""
        progress = self.progress
        with self.ema.applied() if self.ema else nullcontext():
            metrics = self._validate()
            if metrics is None:
                return
            self.history.append(metrics, timing)
            if self.early_stopping.update(metrics, self.model):
                self.history.best_epoch = progress.epoch
            is_last = progress.epoch + 1 - progress.first_epoch == self.train.epochs
            training_ends = is_last or self.early_stopping.should_stop
            if training_ends and self.soup:
                self.soup.add(self.model)
        progress.next_epoch()
        if training_ends:
            self._end_training()
        self._save()
        self.context.on_epoch(len(self.history.epochs), metrics, timing)

    def _validate(self) -> Metrics | None:
        """The epoch's metrics; None if a signal interrupts validation."""
        # In a group, a process that stopped alone would leave the others waiting.
        stop = (lambda: self.signals.requested is not None) if self.context.group.size == 1 else (lambda: False)
        result = validate(self.model, self.val_batches, self.context, stop)
        if result is None:
            return None
        train_loss, train_accuracy = self.progress.means()
        train = {"train/loss": train_loss, "train/accuracy": train_accuracy, "train/lr": self.progress.lr}
        return train | {"val/loss": result[0], "val/accuracy": result[1]}

    def _end_training(self) -> None:
        """Start the next training of the soup, or finish."""
        if self.soup is None or self.soup.is_complete:
            self.progress.finished = True
            return
        self.progress.first_epoch = self.progress.epoch
        self.model.load_state_dict(self.soup.initial_weights)
        self.early_stopping.reset_patience()
        self.reset_optimizer()

    def _stop_if_requested(self) -> None:
        """Let a pending Ctrl-C or SIGTERM take effect, after a checkpoint."""
        if self.signals.requested is not None:
            if self._save():
                print(f"a checkpoint is saved; the same command resumes from {self.progress}", flush=True)
            self.signals.raise_pending()

    def _save(self) -> bool:
        self._read_outcome()
        return self.context.save(CHECKPOINT, self.state_dict())

    def _parts(self) -> dict[str, Any]:
        names = ("model", "optimizer", "scheduler", "ema", "soup", "early_stopping", "history", "progress")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    def state_dict(self) -> State:
        """The state of every part, by name."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: State) -> None:
        """Restore a `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
