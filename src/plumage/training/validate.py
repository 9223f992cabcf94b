"""How good a network is on batches, on all processes together."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from plumage.accelerate.inference import compile_for_inference
from plumage.config import ResolvedTrain
from plumage.training.batches import Batches
from plumage.training.distributed import SINGLE_PROCESS, ProcessGroup


@torch.inference_mode()
def validate(
    network: nn.Module,
    batches: Batches,
    train: ResolvedTrain,
    device: torch.device,
    group: ProcessGroup = SINGLE_PROCESS,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[float, float] | None:
    """Mean cross-entropy and accuracy of `network`, in eval mode, over `batches` of all processes; None if `stop` says so."""
    network.eval()
    loss = torch.zeros((), device=device)
    right = torch.zeros((), device=device, dtype=torch.int64)
    forward = compile_for_inference(network, train.precision, accelerate=train.accelerate)
    for inputs, labels in batches.of(0, 0):
        if stop():
            return None
        logits = forward(inputs)
        loss += F.cross_entropy(logits, labels, reduction="sum")
        right += (logits.argmax(1) == labels).sum()
    loss_sum, right_sum = group.all_reduce_sum(float(loss), float(right))
    return loss_sum / batches.photos, right_sum / batches.photos
