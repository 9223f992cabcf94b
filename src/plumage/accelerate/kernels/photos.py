"""What the loader does to the bytes of photos (photos.c)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plumage.accelerate import kernels


def normalise(photos: Tensor, scale: Tensor, offset: Tensor) -> Tensor | None:
    """uint8 N x H x W x 3 photos on a CPU times `scale` plus `offset`, float32 and one a colour, as float32 of the same shape; None where
    the C can't be had.
    """
    if kernels.compiled() is None:
        return None
    photos = photos.contiguous()
    rows, values = photos.shape[0] * photos.shape[1], photos.shape[2] * 3
    y = torch.empty(photos.shape)
    scale, offset = scale.repeat(photos.shape[2]), offset.repeat(photos.shape[2])  # three values are no vector
    kernels.call("normalise", photos, y, rows, values, scale, offset, torch.get_num_threads())
    return y


def resample(
    photo: NDArray[np.uint8],
    box: tuple[float, float, float, float],
    out: NDArray[np.uint8],
    interpolation: str,
    mirrored: bool,
) -> bool:
    """The box (left, top, right, bottom) of a photo, H x W x 3, its rows anywhere in memory, into `out`, size x size x 3, to the byte as
    Pillow resamples it first across, then down ("bilinear" or "bicubic"); false, and nothing done, where the C can't be had.
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
