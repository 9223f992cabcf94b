"""Where an epoch's batches come from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

Batch = tuple[torch.Tensor, torch.Tensor]
"""The network's input, N x ..., and the labels, int64 N, both on the device."""


@dataclass
class Batches:
    """Where an epoch's batches come from.

    `of(epoch, first)` gives this process's part of each from number `first`, counted from 0. `photos` are an epoch's on all
    processes, `size` those of a full batch.
    """

    of: Callable[[int, int], Iterable[Batch]]
    per_epoch: int
    photos: int
    size: int

    def photos_of(self, batch: int) -> int:
        """The photos of batch number `batch` on all processes."""
        return min(self.size, self.photos - batch * self.size)
