"""Thumbnails for finding near-duplicates: 16 x 16 means of the luma."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 16


def thumbnail(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average the luma (height x width) over SIDE x SIDE equal cells."""
    rows, columns = (cells(length) for length in luma.shape)
    return (rows @ luma @ columns.T + 0.5).astype(np.uint8)


@lru_cache(256)
def cells(length: int, first: float = 0.0, last: float = 0.0) -> NDArray[np.float32]:
    """Return the weight of each of `length` pixels in each of SIDE equal cells: SIDE x length.

    The cells cover what remains of the side when the shares `first` and `last` are cut off its ends.
    """
    edges = np.linspace(first, 1 - last, SIDE + 1) * length
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) / (edges[1] - edges[0])).astype(np.float32)
