"""What this machine trains on, and what each `auto` of the parameters stands for on it."""

import sys

import torch

from plumage.config import ResolvedTrain
from plumage.errors import TrainingError
from plumage.models import kernels
from plumage.training.team import Team

PART = 8
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


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 where asked for; `auto` is bf16 on CUDA, where that is the faster, and fp32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=chosen_precision(device, precision) == "bf16")


def chosen_precision(device: torch.device, wanted: str) -> str:
    """What `auto` stands for on `device`; else what is wanted."""
    if wanted != "auto":
        return wanted
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def compiles(device: torch.device, wanted: bool | str) -> bool:
    """Whether training is compiled: `auto` does on CUDA only; on a CPU it was slower, after minutes at the first step."""
    return device.type == "cuda" if wanted == "auto" else bool(wanted)


def photos_at_once(device: torch.device, freeze_norm: bool) -> int:
    """How many photos of a batch go forward and backward at once, their gradients added up to the batch's.

    PART on a CPU (1.1 to 1.6 times as fast as 32), where no batch norm has to see the whole batch.
    """
    return PART if device.type == "cpu" and freeze_norm else sys.maxsize


def choices(train: ResolvedTrain, device: torch.device, team: Team) -> dict[str, str]:
    """What each `auto` stands for on this machine, as tags of the run."""
    own = device.type == "cpu" and chosen_precision(device, train.precision) == "fp32" and kernels.compiled()
    return {
        "plumage.device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "plumage.precision": chosen_precision(device, train.precision),
        "plumage.compile": str(compiles(device, train.compile)).lower(),
        "plumage.kernels": "own" if own else "torch",
        "plumage.processes": str(team.size),
    }
