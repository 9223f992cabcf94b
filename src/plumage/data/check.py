"""Every photo is looked at once on its way into the data set: whether it is whole, and what is to be known about it."""

import hashlib
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from plumage.data.decode import examine
from plumage.data.photo import Load
from plumage.data.store import SCHEMA, THUMBNAIL_SIDE
from plumage.errors import PhotoError


class Checked(NamedTuple):
    """What became of a few photos."""

    rows: bytes
    """Those that are whole: a record batch of the data set, as Arrow IPC."""
    refused: list[tuple[str, str]]
    """The others: key and reason."""
    mended: Counter[str]
    """How many of the whole ones were mended, by what was mended."""
    seen: int
    """All of them."""


def check_photos(load: Load, min_size: int) -> Checked:
    """Read some photos and check each. A photo with a side under `min_size` pixels is refused."""
    rows, refused, mended = [], [], Counter[str]()
    photos = load()
    for photo in photos:
        try:
            luma, (width, height), mends = examine(photo.data, photo.key)
            if min(width, height) < min_size:
                raise PhotoError(
                    f"too small ({width} x {height} pixels; data.min_size takes {min_size} or more a side)"
                )
        except PhotoError as error:
            refused.append((photo.key, str(error)))
            continue
        mended.update(mends)
        thumbnail = _shrink(luma).tobytes()
        brightness = round(sum(thumbnail) / len(thumbnail))
        sha256 = hashlib.sha256(photo.data).digest()
        rows.append((photo.key, photo.label, photo.part, width, height, brightness, sha256, thumbnail, photo.data))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in SCHEMA]
    batch = pa.record_batch(columns, schema=SCHEMA)
    return Checked(batch.serialize().to_pybytes(), refused, mended, len(photos))


def _shrink(luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mean of the luma in each of 16 x 16 equal cells."""
    rows, columns = (_cells(length) for length in luma.shape)
    return (rows @ luma @ columns.T + 0.5).astype(np.uint8)


@lru_cache(256)
def _cells(length: int) -> NDArray[np.float32]:
    """THUMBNAIL_SIDE x length: the share of each pixel in each cell."""
    edges = np.linspace(0, length, THUMBNAIL_SIDE + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) * (THUMBNAIL_SIDE / length)).astype(np.float32)
