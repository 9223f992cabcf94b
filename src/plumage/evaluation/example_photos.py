"""Photos as a report shows them: what the model sees of them, small, and where it looks."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from plumage.common.progress import track
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import batched, central_view, load_batches
from plumage.data.loading.transforms import to_model_input
from plumage.evaluation.explain import grad_cam
from plumage.models.classifier import ImageClassifier
from plumage.models.preprocessing import Preprocessing

SIDE = 112
"""Pixels of a thumbnail at most; the model's own size where that is smaller."""
QUALITY = 76


@dataclass(frozen=True)
class ShownPhoto:
    """The square that the model sees, as a small JPEG, and its Grad-CAM."""

    jpeg: bytes
    heat: NDArray[np.float32]
    """h x w, 0 to 1: the map that the whole square is overlaid with."""

    def image(self) -> Image.Image:
        """The JPEG, decoded."""
        return Image.open(io.BytesIO(self.jpeg))


def show_photos(
    model: ImageClassifier,
    dataset: Dataset,
    rows: Sequence[int],
    classes: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device | str,
    batch_size: int = 32,
) -> list[ShownPhoto]:
    """The photos `rows`, in their order, with what speaks for class `classes[i]` in each. `model` is moved to `device` and set to
    evaluation. PhotoError for a photo that can't be decoded.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it
    wanted = batched(classes, batch_size)
    views = load_batches(dataset, batched(rows, batch_size), central_view(preprocessing), preprocessing.size)
    shown: list[ShownPhoto] = []
    for batch, of in zip(track(views, "Explaining, batches", total=len(wanted)), wanted, strict=True):
        heat = grad_cam(model, to_model_input(batch, preprocessing, device), torch.tensor(of, device=device))
        shown += [
            ShownPhoto(_jpeg(square), grid) for square, grid in zip(batch.numpy(), heat.cpu().numpy(), strict=True)
        ]
    return shown


def _jpeg(square: NDArray[np.uint8]) -> bytes:
    picture = Image.fromarray(square)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
