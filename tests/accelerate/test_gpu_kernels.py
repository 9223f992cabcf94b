"""The Triton kernels compute what torch does, and a GPU what a CPU does."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from plumage.accelerate.inference import compile_for_inference
from plumage.accelerate.layers import accelerate
from plumage.config import Train
from plumage.models import create_model
from plumage.training.context import TrainingContext
from plumage.training.gradients import GradientAccumulator
from plumage.training.optim import build_optimizer
from plumage.training.seeding import seed_everything

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernels_compute_what_torch_does() -> None:
    tests = Path(__file__).with_name("interpreted_kernels.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    # In a process of its own: Triton's own functions are interpreted only if it is imported so.
    result = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def trained(steps: int, interrupted_after: int | None = None) -> nn.Module:
    """A network after some steps on a GPU, with new recordings from the step `interrupted_after` on."""
    device, train = torch.device("cuda"), Train(batch_size=8).resolved()
    seed_everything(0)
    network = create_model("efficientnet_b0", 10).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(accelerate(network).train(), network.classifier, train)
    passes = GradientAccumulator(network, TrainingContext(train, device))
    for step in range(steps):
        torch.manual_seed(step)
        inputs = torch.randn(8, 3, 64, 64, device=device).to(memory_format=torch.channels_last)
        labels = torch.randint(0, 10, (8,), device=device)
        if step == interrupted_after:
            passes = GradientAccumulator(network, TrainingContext(train, device))
        passes.accumulate(iter([(inputs, labels)]), 1, 8)
        optimizer.step()
    return network


@needs_gpu
def test_training_on_a_gpu_gives_the_same_bytes_however_often_it_is_recorded() -> None:
    first, second, resumed = trained(6), trained(6), trained(6, interrupted_after=3)
    for value, again, after in zip(*(net.state_dict().values() for net in (first, second, resumed)), strict=True):
        assert torch.equal(value, again) and torch.equal(value, after)


@needs_gpu
def test_a_gpu_and_a_cpu_give_the_same_probabilities() -> None:
    network = trained(3).eval()
    x = torch.randn(4, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        forward = compile_for_inference(network, "fp32")
        for _ in range(3):  # the second call records, the third replays
            ours = forward(x.cuda()).softmax(1).cpu()
        expected = compile_for_inference(network.cpu(), "fp32")(x).softmax(1)
    assert (ours - expected).abs().max() < 1e-3
