"""The loader's kernels: normalise and resample photos (photos.c). They take NumPy's arrays: decoding needs no torch."""

import numpy as np
from numpy.typing import NDArray

from plumage.accelerate import kernels


def normalise(
    photos: NDArray[np.uint8], scale: NDArray[np.float32], offset: NDArray[np.float32], threads: int
) -> NDArray[np.float32] | None:
    """N x H x W x 3 photos times `scale` plus `offset` (3 each), on `threads` threads; None without compiled C."""
    loaded = kernels.compiled("photos")
    if loaded is None:
        return None
    photos = np.ascontiguousarray(photos)
    rows, values = photos.shape[0] * photos.shape[1], photos.shape[2] * 3
    y = np.empty(photos.shape, np.float32)
    scale, offset = (np.tile(value, photos.shape[2]) for value in (scale, offset))  # three don't fill a vector register
    assert photos.dtype == np.uint8 and scale.dtype == offset.dtype == np.float32
    loaded.normalise(photos.ctypes.data, y.ctypes.data, rows, values, scale.ctypes.data, offset.ctypes.data, threads)
    return y


def resample(
    photo: NDArray[np.uint8], box: tuple[float, float, float, float], out: NDArray[np.uint8], interpolation: str, mirrored: bool
) -> bool:  # fmt: skip
    """Resample a box of an H x W x 3 photo into `out`, size x size x 3, with the same bytes as Pillow.

    `box` is (left, top, right, bottom), `interpolation` "bilinear" or "bicubic". Rows of the photo may lie anywhere in memory.
    Returns whether there is compiled C; if not, `out` is unchanged.
    """
    loaded = kernels.compiled("photos")
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
