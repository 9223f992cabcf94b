"""The loader's kernels: normalise and resample photos (photos.c)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plumage.accelerate import kernels


def normalise(photos: Tensor, scale: Tensor, offset: Tensor) -> Tensor | None:
    """uint8 N x H x W x 3 photos times `scale` plus `offset` (float32 3), as float32; None without compiled C."""
    if kernels.compiled() is None:
        return None
    photos = photos.contiguous()
    rows, values = photos.shape[0] * photos.shape[1], photos.shape[2] * 3
    y = torch.empty(photos.shape)
    scale, offset = (value.repeat(photos.shape[2]) for value in (scale, offset))  # three don't fill a vector register
    kernels.call("normalise", photos, y, rows, values, scale, offset, torch.get_num_threads())
    return y


def resample(
    photo: NDArray[np.uint8], box: tuple[float, float, float, float], out: NDArray[np.uint8], interpolation: str, mirrored: bool
) -> bool:  # fmt: skip
    """Resample a box of an H x W x 3 photo into `out`, size x size x 3, with the same bytes as Pillow.

    `box` is (left, top, right, bottom), `interpolation` "bilinear" or "bicubic". Rows of the photo may lie anywhere in memory.
    Returns whether there is compiled C; if not, `out` is unchanged.
    """
    loaded = kernels.compiled()
    if loaded is None:
        return False
    down, across, _ = photo.shape
    left, top, right, bottom = box
    assert photo.strides[1:] == (3, 1) and 0 <= left < right <= across and 0 <= top < bottom <= down
    assert out.shape == (len(out), len(out), 3) and out.flags.c_contiguous
    loaded.resample(
        photo.ctypes.data, photo.strides[0], down, across, left, top, right, bottom, out.ctypes.data, len(out),
        interpolation == "bicubic", mirrored,
    )  # fmt: skip
    return True
