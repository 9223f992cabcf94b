"""From a decoded photo to what a model sees.

`Preprocessing` belongs to a set of weights and travels with them (`models/model.json`): the wrong size, crop or
interpolation costs up to 10 points of accuracy.
"""

from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class Preprocessing(BaseModel):
    """How a photo becomes a model's input: short side to size / crop_fraction, centre crop, scale by mean and std."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=8)
    """Side of the square that the model sees, in pixels."""
    crop_fraction: float = Field(gt=0, le=1)
    """Share of the photo's short side that the central crop keeps."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per channel, on the 0..1 scale."""
    std: tuple[float, float, float] = IMAGENET_STD


def eval_view(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """The central view, uint8, size x size x 3. Resizing and cropping are one resampling of a box of the photo."""
    side = min(image.size) * preprocessing.crop_fraction
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return _view(image, (left, top, left + side, top + side), preprocessing)


def train_view(
    image: Image.Image, preprocessing: Preprocessing, rng: np.random.Generator, min_scale: float, flip: bool
) -> np.ndarray:
    """A random view, uint8, size x size x 3: a crop of `min_scale`..1 of the area at an aspect ratio of 3/4..4/3
    (Szegedy et al. 2015, as torchvision's RandomResizedCrop), mirrored half of the time when `flip`.
    """
    area = image.width * image.height * rng.uniform(min_scale, 1.0)
    ratio = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    width = min(float(np.sqrt(area * ratio)), image.width)
    height = min(float(np.sqrt(area / ratio)), image.height)
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    view = _view(image, (left, top, left + width, top + height), preprocessing)
    return view[:, ::-1] if rng.random() < 0.5 and flip else view


def _view(image: Image.Image, box: tuple[float, float, float, float], preprocessing: Preprocessing) -> np.ndarray:
    size = (preprocessing.size, preprocessing.size)
    return np.asarray(image.resize(size, _RESAMPLING[preprocessing.interpolation], box=box))


def to_model_input(batch: torch.Tensor, preprocessing: Preprocessing, device: torch.device | str) -> torch.Tensor:
    """uint8 N x H x W x 3 to normalised float32 N x 3 x H x W in channels_last memory, on `device`."""
    scale = 1 / (255 * torch.tensor(preprocessing.std, device=device))
    offset = torch.tensor(preprocessing.mean, device=device) / torch.tensor(preprocessing.std, device=device)
    return (batch.to(device).float() * scale - offset).permute(0, 3, 1, 2)
