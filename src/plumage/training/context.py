"""What a training is given: photos, settings, hardware, checkpoints, and a callback per epoch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from plumage.config import ResolvedTrain
from plumage.data.dataset.store import Dataset
from plumage.models.preprocessing import Preprocessing
from plumage.training.checkpoints import Checkpoints, State
from plumage.training.distributed import SINGLE_PROCESS, ProcessGroup
from plumage.training.state import OnEpoch


@dataclass(frozen=True)
class TrainingData:
    """Photos to train on."""

    dataset: Dataset
    rows: Mapping[str, list[int]]  # of `dataset`, per split: train and val
    preprocessing: Preprocessing  # for validation and the trained model


@dataclass(frozen=True)
class TrainingContext:
    """Settings and surroundings of a training. Only the main process of `group` has `checkpoints`."""

    train: ResolvedTrain
    device: torch.device
    group: ProcessGroup = SINGLE_PROCESS
    checkpoints: Checkpoints | None = None
    on_epoch: OnEpoch = lambda *_: None
    class_weights: Tensor | None = None
    """C weights of the training photos by their class; None: all count alike."""

    def load(self, name: str) -> State | None:
        """The main process's checkpoint `name`, on every process; None if there is none."""
        return self.group.broadcast(self.checkpoints.load(name, self.device) if self.checkpoints else None)

    def has(self, name: str) -> bool:
        """Whether the main process has a readable checkpoint `name`."""
        checkpoints, cpu = self.checkpoints, torch.device("cpu")
        return self.group.broadcast(checkpoints is not None and checkpoints.load(name, cpu) is not None)

    def save(self, name: str, state: State) -> bool:
        """Replace the checkpoint `name`. Returns whether it is on disk; False without `checkpoints`."""
        return self.checkpoints is not None and self.checkpoints.save(name, state)

    @contextmanager
    def nested(self, name: str) -> Iterator["TrainingContext"]:
        """For one of several trainings within this one: without `on_epoch`, and with checkpoints of its own."""
        with self.checkpoints.nested(name) if self.checkpoints else nullcontext() as checkpoints:
            yield replace(self, checkpoints=checkpoints, on_epoch=lambda *_: None)
