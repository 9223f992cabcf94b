"""A model's outputs for many photos of a data set."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from plumage.accelerate import kernels
from plumage.accelerate.inference import compile_for_inference
from plumage.common.progress import track
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import batched, central_view, load_batches
from plumage.data.loading.model_input import to_model_input
from plumage.errors import ModelError
from plumage.models.classifier import ImageClassifier
from plumage.models.model_files import NOT_FINITE
from plumage.models.preprocessing import Preprocessing


class Outputs(NamedTuple):
    """What a model computed for N photos, in the order of the indices."""

    logits: NDArray[np.float32]
    """N x C."""
    features: NDArray[np.float32]
    """N x F: pooled feature maps, the classifier's input."""


def predict(
    model: ImageClassifier,
    dataset: Dataset,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device | str,
    batch_size: int = 32,
    mirrored: bool = False,
    on_batch: Callable[[torch.Tensor], None] = lambda views: None,
) -> Outputs:
    """Run `model` on the photos `indices`, or on their mirror images if `mirrored`.

    The model is moved to `device` and put in eval mode. Photos are decoded a few batches ahead, so only the outputs take
    memory in proportion to their number. `on_batch` is called with each batch of transformed photos, uint8 N x H x W x 3.

    Raises:
        ModelError: logits are not finite.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it
    batches = batched(indices, batch_size)
    kernels.keep_memory()
    features_of = compile_for_inference(model, pre_logits=True)
    views = load_batches(dataset, batches, central_view(preprocessing, mirrored), preprocessing.size)
    logits = np.empty((len(indices), model.num_classes), np.float32)
    features = np.empty((len(indices), model.num_features), np.float32)
    done = 0
    with torch.inference_mode():
        for batch in track(views, "Predicting, batches", total=len(batches)):
            on_batch(batch)
            pooled = features_of(to_model_input(batch, preprocessing, device))
            outputs = model.classifier(pooled)
            if not torch.isfinite(outputs).all():
                raise ModelError(NOT_FINITE)
            here = slice(done, done + len(batch))
            logits[here], features[here] = outputs.cpu().numpy(), pooled.cpu().numpy()
            done += len(batch)
    return Outputs(logits, features)
