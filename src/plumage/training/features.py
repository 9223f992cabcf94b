"""Features of a frozen network, computed once per photo."""

import torch

from plumage.accelerate.inference import compile_for_inference
from plumage.common.progress import track
from plumage.models.classifier import ImageClassifier
from plumage.training.batches import Batch, Batches, eval_batches
from plumage.training.context import TrainingContext, TrainingData


def cached_features(
    model: ImageClassifier, data: TrainingData, split: str, context: TrainingContext, name: str, mirrored: bool = False
) -> Batch:
    """Features of the photos of `split`, or of their mirror images, on every process; from a checkpoint if there is one.

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
    predict_features = compile_for_inference(
        model, context.train.precision, pre_logits=True, accelerate=context.train.accelerate
    )
    for inputs, batch_labels in track(batches.iterate(0, 0), name, batches.num_batches, shown=group.is_main):
        features.append(predict_features(inputs))
        labels.append(batch_labels)
    count = batches.num_samples
    return group.all_gather(torch.cat(features).clone(), count), group.all_gather(torch.cat(labels), count)
