"""Validation: loss and accuracy over batches, on all processes together."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from plumage.accelerate.inference import compile_for_inference
from plumage.training.batches import Batches
from plumage.training.context import TrainingContext


@torch.inference_mode()
def validate(
    model: nn.Module, batches: Batches, context: TrainingContext, should_stop: Callable[[], bool] = lambda: False
) -> tuple[float, float] | None:
    """Mean cross-entropy and accuracy of `model`, in eval mode, over all processes; None once `should_stop()`."""
    model.eval()
    loss = torch.zeros((), device=context.device)
    num_correct = torch.zeros((), device=context.device, dtype=torch.int64)
    predict = compile_for_inference(model, context.train.precision, accelerate=context.train.accelerate)
    for inputs, labels in batches.iterate(0, 0):
        if should_stop():
            return None
        logits = predict(inputs)
        loss += F.cross_entropy(logits, labels, reduction="sum")
        num_correct += (logits.argmax(1) == labels).sum()
    loss_sum, correct_sum = context.group.all_reduce_sum(float(loss), float(num_correct))
    return loss_sum / batches.num_samples, correct_sum / batches.num_samples
