"""The processes of one training, on one machine or many, as torchrun starts them; by itself, a process is a team of one."""

import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce

from plumage.errors import PlumageError, TrainingError

T = TypeVar("T")
LAUNCHED = "PLUMAGE_LAUNCHED"
"""Set for processes that `plumage.training.launch` started, which says their errors itself."""
TIMEOUT = timedelta(minutes=10)
"""After which a process that waits for the others gives up."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among `size`, from 0. The first one logs and saves."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """This process's items: each is in exactly one process's part."""
        return items[self.rank :: self.size]

    def all_reduce_sum(self, *values: float) -> list[float]:
        """The sum of each value over all processes."""
        sums = torch.tensor(values, dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(sums)
        return sums.tolist()

    def broadcast(self, value: T) -> T:
        """The first process's value, on all."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box)
        return box[0]

    def all_gather(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """All `count` rows, of which each process has its `part`, on all processes."""
        if self.size == 1:
            return rows
        whole = rows.new_zeros(count, *rows.shape[1:])
        whole[self.rank :: self.size] = rows
        dist.all_reduce(whole)
        return whole

    def all_reduce_mean(self, tensors: list[torch.Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        if self.size > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def join_process_group() -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, if it started this one, until the block ends.

    What ends the block is written where torchrun looks for it.

    Raises:
        TrainingError: another process is gone.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ProcessGroup()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Of a depthwise weight in channels_last memory, which has one layout with two names.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # What replaces it is not in every torch that requirements.txt allows.
    warnings.filterwarnings("ignore", ".*broadcast_buffers.* is deprecated")
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    except PlumageError as error:
        _tell(error)
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        gone = TrainingError("another process of the team is gone; the same command goes on from the last checkpoint")
        _tell(gone)
        raise gone from None
    finally:
        dist.destroy_process_group()


def _tell(error: PlumageError) -> None:
    """Leave the line to torchrun, in its form; a process that `launch` started then has nothing to print."""
    now = str(int(time.time()))
    message = {"message": str(error), "extraInfo": {"py_callstack": "", "timestamp": now}}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps({"message": message}), encoding="utf-8")
    if LAUNCHED in os.environ:
        raise SystemExit(1) from error


class SyncedNorm(nn.BatchNorm2d):
    """Batch norm over the batch of all processes (torch's SyncBatchNorm, for any device)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """N x C x H x W to the same shape."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        axes = (0, 2, 3)
        count = x.new_full((1,), x.numel() / x.shape[1])
        sums = all_reduce(torch.cat([x.sum(axes), count]))
        mean = sums[:-1] / sums[-1]
        variance = all_reduce((x - mean[:, None, None]).square().sum(axes)) / sums[-1]
        if self.running_mean is not None and self.running_var is not None:
            share, total = self.momentum or 0.1, sums[-1].detach()
            with torch.no_grad():
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * total / (total - 1), share)
        scale = self.weight * (variance + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


def sync_norms(network: nn.Module) -> None:
    """Let every batch norm of `network` look at the batch of all processes."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncedNorm
