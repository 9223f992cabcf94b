"""A network's answers for many photos at once."""

from collections.abc import Callable

import torch

CPU_PART = 4
"""Photos whose maps stay in a CPU's cache: 1.05 to 1.3 times the speed of 16 at once, on two cores."""


def in_parts(network: Callable[[torch.Tensor], torch.Tensor], photos: torch.Tensor) -> torch.Tensor:
    """`network(photos)`, on a CPU a few photos at a time."""
    if photos.device.type != "cpu":
        return network(photos)
    return torch.cat([network(part) for part in photos.split(CPU_PART)])
