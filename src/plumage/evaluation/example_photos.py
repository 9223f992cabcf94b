"""Example photos as the report shows them: a thumbnail of the model's input and its Grad-CAM.

Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) of the last feature map shows where the model looks.
"""

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from plumage.common.progress import track
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import batched, central_view, load_batches
from plumage.data.loading.model_input import to_model_input
from plumage.models.classifier import ImageClassifier
from plumage.models.preprocessing import Preprocessing

THUMBNAIL_SIZE, LARGE_SIZE = 112, 288
"""Largest side in pixels of a thumbnail, and of a photo to look at; a model with smaller inputs has smaller ones."""
JPEG_QUALITY = 76


@dataclass(frozen=True)
class ExamplePhoto:
    """A thumbnail of the square that the model sees, and its Grad-CAM."""

    jpeg: bytes
    heat: NDArray[np.float32]  # h x w, 0 to 1, covering the whole square

    def image(self) -> Image.Image:
        """The decoded JPEG."""
        return Image.open(io.BytesIO(self.jpeg))


def load_example_photos(
    model: ImageClassifier,
    dataset: Dataset,
    rows: Sequence[int],
    classes: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device | str,
    batch_size: int = 32,
    large: Collection[int] = (),
) -> list[ExamplePhoto]:
    """The photos `rows`, in order, each with the Grad-CAM of class `classes[i]`; rows in `large` are larger.

    Moves `model` to `device`, in eval mode.

    Raises:
        PhotoError: a photo can't be decoded.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it
    class_batches = batched(classes, batch_size)
    sides = batched([LARGE_SIZE if row in large else THUMBNAIL_SIZE for row in rows], batch_size)
    batches = load_batches(dataset, batched(rows, batch_size), central_view(preprocessing), preprocessing.size)
    photos: list[ExamplePhoto] = []
    progress = track(batches, "Explaining, batches", total=len(class_batches))
    for batch, of_batch, sides_of_batch in zip(progress, class_batches, sides, strict=True):
        heat = grad_cam(model, to_model_input(batch, preprocessing, device), torch.tensor(of_batch, device=device))
        photos += map(ExamplePhoto, map(_jpeg, batch.numpy(), sides_of_batch), heat.cpu().numpy())
    return photos


def _jpeg(square: NDArray[np.uint8], side: int) -> bytes:
    thumbnail = Image.fromarray(square)
    thumbnail.thumbnail((side, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


def grad_cam(model: ImageClassifier, photos: Tensor, classes: Tensor) -> Tensor:
    """The evidence for class `classes[i]` in photo i at each position of the last feature maps: N x h x w float32, 0 to 1.

    `photos` is N x 3 x H x W, normalised as the model expects; the model is in eval mode. h x w is 1/32 of H x W. Each map is scaled to
    its own maximum; a map without evidence for the class is all 0. Weights and gradients stay as they are.

    Grad-CAM weights the last maps by the mean gradient of the class's logit. Here the logit is linear in the maps' means, so the gradient
    is the classifier's weights / (h * w) everywhere: Grad-CAM is CAM (Zhou et al. 2016) and needs no backward pass.
    """
    with torch.inference_mode():
        maps = model.forward_features(photos).float()
        weights = model.classifier.weight.float()[classes]
        heat = torch.einsum("nfhw,nf->nhw", maps, weights).relu()
        highest = heat.amax((1, 2), keepdim=True)
        return heat / torch.where(highest > 0, highest, 1)
