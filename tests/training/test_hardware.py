"""A device that is asked for is there or refused; `auto` is said in words."""

import pytest
import torch

from plumage.accelerate import kernels
from plumage.config import Train
from plumage.errors import TrainingError
from plumage.training.distributed import ProcessGroup
from plumage.training.hardware import choose_device, hardware_tags


def test_a_device_that_is_not_there_is_an_error() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(TrainingError, match="cuda:99"):
        choose_device("cuda:99")


def test_what_auto_stands_for_on_a_cpu_is_told() -> None:
    told = hardware_tags(Train().resolved(), torch.device("cpu"), ProcessGroup(0, 3))
    assert told == {
        "plumage.device": "cpu",
        "plumage.precision": "bf16" if kernels.computes_bf16() else "fp32",
        "plumage.compile": "false",
        "plumage.kernels": "own" if kernels.compiled() else "torch",
        "plumage.processes": "3",
    }
    asked = hardware_tags(Train(precision="bf16", compile=True).resolved(), torch.device("cpu"), ProcessGroup())
    assert (asked["plumage.precision"], asked["plumage.compile"], asked["plumage.kernels"]) == (
        "bf16",
        "true",
        told["plumage.kernels"],
    )
