"""The processes of a training, on one machine or many, as torchrun starts them. Without torchrun, a group of one."""

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
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from plumage.errors import PlumageError, TrainingError

T = TypeVar("T")
LAUNCHED = "PLUMAGE_LAUNCHED"
"""Set in processes started by `plumage.training.launch`, which prints their errors itself."""
TIMEOUT = timedelta(minutes=10)
"""A process gives up after waiting this long for the others."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank, counted from 0, among `size` processes. The main process, rank 0, logs and saves."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> Sequence[T]:
        """This process's items: each item is in exactly one process's shard."""
        return items[self.rank :: self.size]

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum of each value over all processes, on the device of `values`."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def broadcast(self, value: T) -> T:
        """The main process's value, on every process."""
        box = [value]
        if self.size > 1:
            dist.broadcast_object_list(box)
        return box[0]

    def all_gather(self, rows: Tensor, count: int) -> Tensor:
        """All `count` rows, on every process; each process passes the rows of its `shard`."""
        if self.size == 1:
            return rows
        gathered = rows.new_zeros(count, *rows.shape[1:])
        gathered[self.rank :: self.size] = rows
        dist.all_reduce(gathered)
        return gathered

    def all_reduce_mean(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in place."""
        if self.size > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            means = (flat / self.size).split([tensor.numel() for tensor in tensors])
            for tensor, mean in zip(tensors, means, strict=True):
                tensor.copy_(mean.view_as(tensor))


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def join_process_group() -> Iterator[ProcessGroup]:
    """Join the other processes until the block ends, if torchrun started this one. TrainingError if another has died.

    An error that ends the block is also written to torchrun's error file.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ProcessGroup()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Harmless for depthwise weights in channels_last memory: both strides describe the same layout.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # The replacement does not exist in every torch version that requirements.txt allows.
    warnings.filterwarnings("ignore", ".*broadcast_buffers.* is deprecated")
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())
    except PlumageError as error:
        _report(error)
        raise
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        died = TrainingError("another process has died; the same command resumes from the last checkpoint")
        _report(died)
        raise died from None
    finally:
        dist.destroy_process_group()


def _report(error: PlumageError) -> None:
    """Write the message to torchrun's error file, in its format. A process started by `launch` then exits quietly."""
    message = {"message": str(error), "extraInfo": {"py_callstack": "", "timestamp": str(int(time.time()))}}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps({"message": message}), encoding="utf-8")
    if LAUNCHED in os.environ:
        raise SystemExit(1) from error


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes: torch.nn.SyncBatchNorm, which needs CUDA, for any device."""

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to the same shape."""
        if not self.training or not dist.is_initialized():
            return super().forward(x)
        axes = (0, 2, 3)
        count = x.new_full((1,), x.numel() / x.shape[1])
        sums = all_reduce(torch.cat([x.sum(axes), count]))
        mean = sums[:-1] / sums[-1]
        variance = all_reduce((x - mean[:, None, None]).square().sum(axes)) / sums[-1]
        if self.running_mean is not None and self.running_var is not None:
            momentum, total = self.momentum or 0.1, sums[-1].detach()
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * total / (total - 1), momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


def convert_sync_batchnorm(model: nn.Module) -> None:
    """Make every batch norm of `model` a SyncBatchNorm, in place."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm
