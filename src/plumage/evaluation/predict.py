"""A network's answers on many photos of a data set."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from plumage import kernels
from plumage.data.loader import in_batches, load_batches
from plumage.data.store import Dataset
from plumage.data.transforms import Preprocessing, eval_view, to_model_input
from plumage.errors import ModelError
from plumage.models.efficientnet import EfficientNet
from plumage.models.inference import features_for_inference
from plumage.progress import track


class Answers(NamedTuple):
    """Of N photos, in their order."""

    logits: NDArray[np.float32]
    """N x C."""
    features: NDArray[np.float32]
    """N x F, pooled: what the classifier sees."""


def predict(
    model: EfficientNet,
    dataset: Dataset,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device | str,
    batch_size: int = 32,
    mirrored: bool = False,
    look: Callable[[torch.Tensor], None] = lambda views: None,
) -> Answers:
    """What `model` answers on the photos `indices`, or on their mirror images.

    It is moved to `device` and set to evaluation. Photos are decoded a few batches ahead of it, so memory doesn't grow with their
    number but for the answers. `look` is shown each batch of views, uint8 N x H x W x 3. ModelError when a photo's logits are
    not finite: the weights have diverged.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it
    batches = in_batches(indices, batch_size)
    kernels.keep_memory()
    features_of = features_for_inference(model)

    def view(photo: NDArray[np.uint8], row: int, out: NDArray[np.uint8]) -> None:
        eval_view(photo, preprocessing, mirrored, out)

    views = load_batches(dataset, batches, view, preprocessing.size)
    logits = np.empty((len(indices), model.classifier.out_features), np.float32)
    features = np.empty((len(indices), model.num_features), np.float32)
    done = 0
    with torch.inference_mode():
        for batch in track(views, "Predicting, batches", total=len(batches)):
            look(batch)
            pooled = features_of(to_model_input(batch, preprocessing, device))
            answers = F.linear(pooled, *map(torch.Tensor.float, model.classifier.parameters()))
            if not torch.isfinite(answers).all():
                raise ModelError("the model's outputs are not finite: training diverged; try a lower train.lr")
            here = slice(done, done + len(batch))
            logits[here], features[here] = answers.cpu().numpy(), pooled.cpu().numpy()
            done += len(batch)
    return Answers(logits, features)
