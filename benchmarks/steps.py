"""A training step of EfficientNet-B0 at 224 pixels on a CPU, against torchvision."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from common import Rows, in_turn
from torch import nn
from torchvision.models import efficientnet_b0

from plumage.accelerate import kernels
from plumage.accelerate.kernels.dispatch import dtype_of
from plumage.accelerate.layers import accelerate
from plumage.config import Precision
from plumage.models import create_model
from plumage.training.hardware import autocast

NOTE = (
    "Forward, backward and AdamW with 1,000 classes, on blank photos in channels_last memory. Only the network differs. "
    "Baseline: torchvision's EfficientNet-B0. Ratios above 1 favour ours."
)


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row per batch size and precision."""
    device = torch.device("cpu")
    rows: Rows = []
    kernels.keep_memory()  # as training does; torchvision's network benefits too
    for batch, precision in ((batch, precision) for batch in (16, 64) for precision in precisions(device)):
        networks = {"ours": accelerate(create_model("efficientnet_b0", 1000)), "torchvision": efficientnet_b0()}
        seconds = in_turn({name: step(network, batch, device, precision) for name, network in networks.items()})
        rows.append(
            {
                "batch": batch,
                "precision": precision,
                **{f"{name}, images/s": batch / took for name, took in seconds.items()},
                "ratio": seconds["torchvision"] / seconds["ours"],
            }
        )
    return rows


def precisions(device: torch.device) -> list[Precision]:
    """The precisions to measure on `device`."""
    return ["fp32", *(["bf16"] if dtype_of(device, "auto") == torch.bfloat16 else [])]  # type: ignore[list-item]


def step(network: nn.Module, batch: int, device: torch.device, precision: Precision) -> Callable[[], float]:
    network = network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    inputs = torch.randn(batch, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (batch,), device=device)

    def do() -> float:
        optimizer.zero_grad()
        with autocast(device, precision):
            loss = F.cross_entropy(network(inputs).float(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return do
