"""An unavailable device is refused; the tags name what `auto` means."""

import pytest
import torch

from plumage.accelerate import kernels
from plumage.config import Train
from plumage.errors import TrainingError
from plumage.training.distributed import ProcessGroup
from plumage.training.hardware import choose_device, hardware_tags


def test_an_unavailable_device_is_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(TrainingError, match="cuda:99"):
        choose_device("cuda:99")


def test_the_tags_name_what_auto_means_on_a_cpu() -> None:
    tags = hardware_tags(Train().resolved(), torch.device("cpu"), ProcessGroup(0, 3))
    assert tags == {
        "device": "cpu",
        "precision": "bf16" if kernels.computes_bf16() else "fp32",
        "compile": "false",
        "kernels": "own" if kernels.compiled() else "torch",
        "processes": "3",
    }
    explicit = hardware_tags(Train(precision="bf16", compile=True).resolved(), torch.device("cpu"), ProcessGroup())
    assert (explicit["precision"], explicit["compile"], explicit["kernels"]) == (
        "bf16",
        "true",
        tags["kernels"],
    )
