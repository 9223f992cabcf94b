"""What this machine trains on, and what each `auto` of the parameters stands for on it."""

import sys

import torch

from plumage.accelerate import kernels
from plumage.accelerate.precision import dtype_of
from plumage.config import Precision, ResolvedTrain
from plumage.errors import TrainingError
from plumage.training.distributed import ProcessGroup

PARTS = {torch.float32: 8, torch.bfloat16: 16}
"""Photos whose maps, forward and backward, stay in a CPU's cache."""


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


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """bf16 where asked for, or where `auto` stands for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype_of(device, precision) == torch.bfloat16)


def compiles(device: torch.device, wanted: bool | str) -> bool:
    """Whether training is compiled: `auto` does on CUDA only; on a CPU it was slower, after minutes at the first step."""
    return device.type == "cuda" if wanted == "auto" else bool(wanted)


def micro_batch_size(device: torch.device, train: ResolvedTrain) -> int:
    """How many photos of a batch go forward and backward at once, their gradients added up to the batch's.

    On a CPU one of PARTS (1.1 to 1.6 times as fast as 32), where no batch norm has to see the whole batch.
    """
    return PARTS[dtype_of(device, train.precision)] if device.type == "cpu" and train.freeze_norm else sys.maxsize


def hardware_tags(train: ResolvedTrain, device: torch.device, group: ProcessGroup) -> dict[str, str]:
    """What each `auto` stands for on this machine, as tags of the run."""
    dtype = dtype_of(device, train.precision)
    own = train.accelerate and device.type == "cpu" and kernels.compiled(dtype)
    return {
        "plumage.device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "plumage.precision": "bf16" if dtype == torch.bfloat16 else "fp32",
        "plumage.compile": str(compiles(device, train.compile)).lower(),
        "plumage.kernels": "own" if own else "torch",
        "plumage.processes": str(group.size),
    }
