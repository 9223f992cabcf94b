"""Check each photo on its way into the data set: decode it, and compute its columns."""

import hashlib
from collections import Counter
from typing import NamedTuple

import pyarrow as pa

from plumage.data.dataset.decode import examine
from plumage.data.dataset.store import SCHEMA
from plumage.data.dataset.thumbnail import thumbnail
from plumage.data.sources.photo import Chunk
from plumage.errors import PhotoError


class Checked(NamedTuple):
    """The result of checking a chunk of photos."""

    rows: bytes
    """The usable photos: a record batch of the data set, as Arrow IPC."""
    refused: list[tuple[str, str]]
    """Key and reason of each refused photo."""
    repaired: Counter[str]
    """The number of usable photos by kind of repair."""
    total: int
    """The number of photos, usable or not."""


def check_photos(chunk: Chunk, min_size: int) -> Checked:
    """Read a chunk of photos and check each. A photo with a side under `min_size` pixels is refused."""
    rows, refused, repaired = [], [], Counter[str]()
    photos = chunk()
    for photo in photos:
        try:
            luma, (width, height), repairs = examine(photo.data, photo.key)
            if min(width, height) < min_size:
                raise PhotoError(
                    f"too small ({width} x {height} pixels; data.min_size asks for {min_size} or more per side)"
                )
        except PhotoError as error:
            refused.append((photo.key, str(error)))
            continue
        repaired.update(repairs)
        small = thumbnail(luma).tobytes()
        brightness = round(sum(small) / len(small))
        sha256 = hashlib.sha256(photo.data).digest()
        rows.append((photo.key, photo.label, photo.split, width, height, brightness, sha256, small, photo.data))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in SCHEMA]
    batch = pa.record_batch(columns, schema=SCHEMA)
    return Checked(batch.serialize().to_pybytes(), refused, repaired, len(photos))
