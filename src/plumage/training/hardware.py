"""This machine's hardware, and what each `auto` in the parameters means on it."""

import os
import sys
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn

from plumage.accelerate import kernels
from plumage.accelerate.kernels import gpu
from plumage.accelerate.kernels.dispatch import LIBRARIES, dtype_of
from plumage.common.cores import cores, take_short_slices
from plumage.config import Precision, ResolvedTrain
from plumage.errors import TrainingError
from plumage.training.distributed import ProcessGroup

CPU_MICRO_BATCH = {torch.float32: 8, torch.bfloat16: 16}
"""Photos whose activations, forward and backward, stay in a CPU's cache."""


def choose_device(wanted: str) -> torch.device:
    """The device `wanted`; for `auto` the first available of cuda, mps and cpu. TrainingError if it isn't there.

    Torch's threads are limited to this process's cores (torch doesn't know a container's CPU quota), and take short slices.
    """
    take_short_slices()
    torch.set_num_threads(min(torch.get_num_threads(), cores()))
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    device = torch.device(wanted)
    available = {"cuda": has_cuda and (device.index or 0) < torch.cuda.device_count(), "mps": has_mps}
    if not available.get(device.type, True):
        raise TrainingError(f"train.device: got {wanted}, which this machine lacks; takes auto or cpu here")
    return device


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast to bf16, if `precision` means bf16 on this device."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype_of(device, precision) == torch.bfloat16)


def compile_for_training(model: nn.Module, deterministic: bool) -> nn.Module:
    """torch.compile for one batch size; if `deterministic`, without choosing kernels by their time, which varies."""
    from torch._inductor import config  # late: it imports a compiler

    options: dict[str, Any] = {"deterministic": True} if deterministic and hasattr(config, "deterministic") else {}
    return cast(nn.Module, torch.compile(model, dynamic=False, options=options))


def micro_batch_size(device: torch.device, train: ResolvedTrain) -> int:
    """Samples per forward and backward pass; gradients add up to the batch's.

    On a CPU one CPU_MICRO_BATCH (1.1 to 1.6 times as fast as 32), unless batch norm has to see the whole batch.
    """
    if device.type == "cpu" and train.freeze_norm:
        return CPU_MICRO_BATCH[dtype_of(device, train.precision)]
    return sys.maxsize


def hardware_tags(train: ResolvedTrain, device: torch.device, group: ProcessGroup) -> dict[str, str]:
    """What each `auto` means on this machine, `why`, and what else decides the speed: kernels are own or torch's."""
    dtype, micro_batch = dtype_of(device, train.precision), micro_batch_size(device, train)
    available = gpu.HAS_TRITON if device.type == "cuda" else device.type == "cpu" and kernels.compiled(LIBRARIES[dtype])
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": "bf16" if dtype == torch.bfloat16 else "fp32",
        "compile": str(train.compile).lower(),
        "kernels": "own" if train.accelerate and available else "torch",
        "processes": str(group.size),
        "threads": str(torch.get_num_threads()),
        "micro_batch": "whole batch" if micro_batch == sys.maxsize else str(micro_batch),
        "why": "; ".join(_reasons(train, device)),
    }


def _reasons(train: ResolvedTrain, device: torch.device) -> Iterator[str]:
    """Why the precision, the threads and the micro-batch are what they are."""
    if train.precision != "auto":
        yield "precision: set in params.yaml"
    elif device.type == "cpu":
        yield f"precision: {kernels.bf16_rule()[1]}"
    else:
        bf16 = dtype_of(device, train.precision) == torch.bfloat16
        yield f"precision: the GPU {'computes' if bf16 else 'does not compute'} in bf16"
    is_set = "OMP_NUM_THREADS" in os.environ
    yield "threads: OMP_NUM_THREADS" if is_set else "threads: the physical cores that this process may use"
    if device.type != "cpu":
        yield "micro-batch: a GPU is fastest with the whole batch"
    elif train.freeze_norm:
        yield "micro-batch: its feature maps stay in the cache"
    else:
        yield "micro-batch: batch norm needs the whole batch"
