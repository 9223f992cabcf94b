"""An unavailable device is refused; the tags name what `auto` means."""

import os
import subprocess
import sys

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
    why = dict(reason.split(": ") for reason in tags.pop("why").split("; "))
    assert why["precision"] == kernels.bf16_rule()[1] and set(why) == {"precision", "threads", "micro-batch"}
    assert tags == {
        "device": "cpu",
        "precision": "bf16" if kernels.computes_bf16() else "fp32",
        "compile": "false",
        "kernels": "own" if kernels.compiled() else "torch",
        "processes": "3",
        "threads": str(torch.get_num_threads()),
        "micro_batch": "whole batch",
    }
    explicit = hardware_tags(Train(precision="bf16", compile=True).resolved(), torch.device("cpu"), ProcessGroup())
    assert (explicit["precision"], explicit["compile"], explicit["kernels"]) == (
        "bf16",
        "true",
        tags["kernels"],
    )
    assert explicit["why"].startswith("precision: set in params.yaml; ")


def test_training_keeps_to_the_cores_of_a_container() -> None:
    code = "import torch; from plumage.training.hardware import choose_device; choose_device('auto'); print(torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    # What joblib counts is limited by a quota, as by this variable.
    result = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "LOKY_MAX_CPU_COUNT": "1"}, capture_output=True, text=True
    )
    assert result.stdout.strip() == "1", result.stderr
