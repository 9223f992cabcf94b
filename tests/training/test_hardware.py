"""A device that is asked for is there or refused; `auto` is said in words."""

import pytest
import torch

from plumage import kernels
from plumage.config import Train
from plumage.errors import TrainingError
from plumage.training.hardware import choices, choose_device
from plumage.training.team import Team


def test_a_device_that_is_not_there_is_an_error() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(TrainingError, match="cuda:99"):
        choose_device("cuda:99")


def test_what_auto_stands_for_on_a_cpu_is_told() -> None:
    told = choices(Train().resolved(), torch.device("cpu"), Team(0, 3))
    assert told == {
        "plumage.device": "cpu",
        "plumage.precision": "bf16" if kernels.computes_bf16() else "fp32",
        "plumage.compile": "false",
        "plumage.kernels": "own" if kernels.compiled() else "torch",
        "plumage.processes": "3",
    }
    asked = choices(Train(precision="bf16", compile=True).resolved(), torch.device("cpu"), Team())
    assert (asked["plumage.precision"], asked["plumage.compile"], asked["plumage.kernels"]) == (
        "bf16",
        "true",
        told["plumage.kernels"],
    )
