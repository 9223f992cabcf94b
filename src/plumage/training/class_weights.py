"""Weights of the training photos by their class, for classes of unequal size.

- balanced: 1 / n, for a class of n photos.
- effective: (1 - beta) / (1 - beta^n), the inverse of the effective number of samples (Cui et al. 2019, arXiv
  1901.05555): photos of a class overlap, so the hundredth adds less than the second.
"""

import torch
from torch import Tensor

from plumage.config import ClassWeights

BETA = 0.999
"""Of those that Cui et al. try, 0.9 to 0.9999, the best on 1 to 29 photos per class (docs/experiments.md). The effective number is at
most 1 / (1 - beta): classes of tens of photos get about the balanced weights, those of thousands get equal ones."""


def class_weights(kind: ClassWeights, labels: Tensor, num_classes: int) -> Tensor | None:
    """C weights, float32, with a mean of 1 over the photos of `labels` (N), so that learning rates and penalties keep
    their meaning; None without weights. A class without photos gets 0.
    """
    if kind == "none":
        return None
    counts = torch.bincount(labels.cpu(), minlength=num_classes).double()
    numbers = counts if kind == "balanced" else (1 - BETA**counts) / (1 - BETA)
    weights = torch.where(counts > 0, 1 / numbers.clamp(min=1e-12), 0.0)
    return (weights * (counts.sum() / (weights * counts).sum())).float().to(labels.device)
