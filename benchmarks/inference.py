"""Inference of EfficientNet-B0 on batches of 32, against plain torchvision."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from common import Rows, in_turn, plain_memory
from torchvision.models import efficientnet_b0

from plumage.accelerate import kernels
from plumage.accelerate.inference import Forward, compile_for_inference
from plumage.models.networks import build_network, configure
from plumage.models.state_dicts import load_tensors

NOTE = (
    "Batch 32 at 224 pixels. Baseline: torchvision's EfficientNet-B0 with the same weights, fp32, NCHW memory, the whole batch at once. "
    "Ours: the network prepared for inference, fp32, in micro-batches. We also keep freed memory in the process; the third column gives "
    "the baseline that advantage."
)


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row, with the largest difference between probabilities."""
    torch.manual_seed(0)
    inputs, theirs = torch.randn(32, 3, 224, 224), efficientnet_b0().train()
    with torch.no_grad():
        for _ in range(10):  # fit batch norm's statistics, so that outputs differ between photos
            theirs(inputs)
        theirs.eval().classifier[1].weight *= 20
    ours = build_network(replace(configure("efficientnet_b0"), bn_eps=1e-5), 1000)  # torchvision's eps
    load_tensors(ours, theirs.state_dict(), "torchvision")
    ours = ours.eval().to(memory_format=torch.channels_last)
    forward = compile_for_inference(ours)

    def plainly() -> torch.Tensor:
        plain_memory()
        return theirs(inputs)

    def keeping(network: Forward) -> Callable[[], torch.Tensor]:
        def do() -> torch.Tensor:
            kernels.keep_memory()
            return network(inputs)

        return do

    work = {"torchvision": plainly, "ours": keeping(forward), "torchvision that keeps memory": keeping(theirs)}
    with torch.inference_mode():
        seconds = in_turn(work, 7)
        expected, got = theirs(inputs).softmax(1), forward(inputs).softmax(1)
    return [
        {
            **{f"{name}, images/s": 32 / took for name, took in seconds.items()},
            "ratio": seconds["torchvision"] / seconds["ours"],
            "largest difference of a probability": f"{(expected - got).abs().max().item():.1e}",
            "same first class": f"{(expected.argmax(1) == got.argmax(1)).float().mean().item():.1%}",
        }
    ]
