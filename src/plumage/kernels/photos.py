"""What the loader does to the bytes of photos (photos.c)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from plumage import kernels


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
    photo: NDArray[np.uint8], box: tuple[int, int, int, int], size: int, interpolation: str, mirrored: bool
) -> NDArray[np.uint8] | None:
    """The box (left, top, right, bottom) of a photo, H x W x 3, as size x size x 3, as Pillow resamples it ("bilinear" or "bicubic")
    but for its rounding in between; None where the C can't be had.
    """
    loaded = kernels.compiled()
    if loaded is None:
        return None
    left, top, right, bottom = box
    assert photo.flags.c_contiguous and 0 <= left < right <= photo.shape[1] and 0 <= top < bottom <= photo.shape[0]
    stride = photo.strides[0]
    y = np.empty((size, size, 3), np.uint8)
    loaded.resample(
        photo.ctypes.data + top * stride + left * 3, stride, bottom - top, right - left, y.ctypes.data, size,
        interpolation == "bicubic", mirrored,
    )  # fmt: skip
    return y
