"""From a decoded photo to a model's input: the central crop for evaluation, random crops for training. Without torch."""

import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumage.accelerate.kernels.photos import normalise, resample
from plumage.config import Augmentation
from plumage.models.preprocessing import Preprocessing


def eval_view(
    photo: np.ndarray, preprocessing: Preprocessing, mirrored: bool = False, out: np.ndarray | None = None
) -> np.ndarray:
    """Return the central crop of a photo (uint8 H x W x 3), resized to size x size x 3, mirrored if asked; in `out` if given."""
    height, width, _ = photo.shape
    side = min(height, width) * preprocessing.crop_fraction
    left, top = (width - side) / 2, (height - side) / 2
    return _resized(photo, (left, top, left + side, top + side), preprocessing, mirrored, out)


def augmentation_draws(*key: int) -> tuple[float, ...]:
    """Return five numbers, uniform on [0, 1), that depend on `key` alone. (A NumPy generator per photo would be slow.)"""
    digest = hashlib.blake2b(struct.pack(f"<{len(key)}q", *key), digest_size=40).digest()
    return tuple((value >> 11) * 2.0**-53 for value in struct.unpack("<5Q", digest))


class Crop(NamedTuple):
    """A part of a photo, in whole pixels, and whether it is mirrored."""

    left: int
    top: int
    across: int
    down: int
    mirrored: bool


def random_crop(width: int, height: int, draws: Sequence[float], augmentation: Augmentation) -> Crop:
    """Return a random crop of a photo of this size in pixels; `draws` are five numbers of [0, 1).

    It has `min_scale` to 1 of the area and an aspect ratio of 3/4 to 4/3 (Szegedy et al. 2015, as torchvision's
    RandomResizedCrop). With `flip`, half of the crops are mirrored.
    """
    area = width * height * (augmentation.min_scale + (1 - augmentation.min_scale) * draws[0])
    ratio = 3 / 4 * (16 / 9) ** draws[1]  # uniform in its logarithm
    across = max(1, min(round(math.sqrt(area * ratio)), width))
    down = max(1, min(round(math.sqrt(area / ratio)), height))
    left, top = int((width - across + 1) * draws[2]), int((height - down + 1) * draws[3])
    return Crop(left, top, across, down, augmentation.flip and draws[4] < 0.5)


def train_view(
    photo: np.ndarray,
    preprocessing: Preprocessing,
    draws: Sequence[float],
    augmentation: Augmentation,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return a `random_crop` of a photo (uint8 H x W x 3), resized to size x size x 3; in `out` if given."""
    height, width, _ = photo.shape
    left, top, across, down, mirrored = random_crop(width, height, draws, augmentation)
    cut = photo[top : top + down, left : left + across]
    return _resized(cut, (0, 0, across, down), preprocessing, mirrored, out)


@dataclass(frozen=True)
class RandomCrops:
    """The training transform of an epoch: what a photo's crop is depends on its row, the epoch and the seed alone."""

    preprocessing: Preprocessing
    augmentation: Augmentation
    seed: int
    epoch: int

    def __call__(self, photo: np.ndarray, row: int, out: np.ndarray) -> None:
        """Crop and resize a decoded photo, uint8 H x W x 3, into `out`, uint8 size x size x 3."""
        train_view(photo, self.preprocessing, self._draws(row), self.augmentation, out)

    def crop(self, row: int, width: int, height: int) -> Crop:
        """The same crop, of the photo `row` of this size in pixels."""
        return random_crop(width, height, self._draws(row), self.augmentation)

    def _draws(self, row: int) -> tuple[float, ...]:
        return augmentation_draws(self.seed, self.epoch, row)


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _resized(
    photo: np.ndarray, box: Box, preprocessing: Preprocessing, mirrored: bool, out: np.ndarray | None
) -> np.ndarray:
    """Resize the box of a photo to size x size x 3: first horizontally, then vertically."""
    size = preprocessing.size
    out = np.empty((size, size, 3), np.uint8) if out is None else out
    if not resample(photo, box, out, preprocessing.interpolation, mirrored):
        (left, top, right, bottom), method = box, Image.Resampling[preprocessing.interpolation.upper()]
        # Two calls, since the order within one depends on Pillow's version.
        wide = Image.fromarray(photo).resize((size, len(photo)), method, (left, 0, right, len(photo)))
        view = np.asarray(wide.resize((size, size), method, (0, top, size, bottom)))
        out[:] = view[:, ::-1] if mirrored else view
    return out


def normalised(photos: NDArray[np.uint8], preprocessing: Preprocessing, threads: int) -> NDArray[np.float32]:
    """Normalise N x H x W x 3 photos to a model's input, N x 3 x H x W in channels_last memory, on `threads` threads."""
    scale, offset = scale_and_offset(preprocessing)
    inputs = normalise(photos, scale, offset, threads)
    return (photos * scale + offset if inputs is None else inputs).transpose(0, 3, 1, 2)


def scale_and_offset(preprocessing: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a photo's bytes are multiplied by, and what is added, per channel."""
    mean, deviation = (np.array(value, np.float32) for value in (preprocessing.mean, preprocessing.std))
    scale: NDArray[np.float32] = np.float32(1) / (255 * deviation)
    return scale, -mean / deviation
