"""Forward passes over a split, on all processes together: validation, and the features of a frozen network."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from plumage.accelerate.inference import compile_for_inference
from plumage.common.progress import track
from plumage.models.classifier import ImageClassifier
from plumage.training.batches import Batch, Batches, eval_batches
from plumage.training.context import TrainingContext, TrainingData


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
    sums = torch.tensor([float(loss), float(num_correct)], dtype=torch.float64)
    loss_sum, correct_sum = context.group.all_reduce_sum(sums).tolist()
    return loss_sum / batches.num_samples, correct_sum / batches.num_samples


def cached_features(
    model: ImageClassifier, data: TrainingData, split: str, context: TrainingContext, name: str, mirrored: bool = False
) -> Batch:
    """Features of the photos of `split`, or of their mirror images, on every process; from a checkpoint if possible.

    `name` tells features of different weights apart, in checkpoints and on the progress bar.
    """
    name = f"{name} of {split}{', mirrored' if mirrored else ''}"
    state = context.load(name)
    if state is None:
        features, labels = extract_features(model, eval_batches(data, split, context, mirrored), context, name)
        state = {"features": features, "labels": labels}
        context.save(name, state)
    return state["features"], state["labels"]


@torch.inference_mode()
def extract_features(model: ImageClassifier, batches: Batches, context: TrainingContext, name: str) -> Batch:
    """Pooled features, float32 N x F, and labels, int64 N, of all samples, on every process."""
    features, labels, group = [], [], context.group
    precision, accelerate = context.train.precision, context.train.accelerate
    predict_features = compile_for_inference(model, precision, pre_logits=True, accelerate=accelerate)
    for inputs, batch_labels in track(batches.iterate(0, 0), name, batches.num_batches, shown=group.is_main):
        features.append(predict_features(inputs))
        labels.append(batch_labels)
    count = batches.num_samples
    return group.all_gather(torch.cat(features).clone(), count), group.all_gather(torch.cat(labels), count)
