"""Every photo is looked at once on its way into the data set: whether it is whole, and what is to be known about it."""

import hashlib
from collections import Counter
from typing import NamedTuple

import pyarrow as pa

from plumage.data.dataset.decode import examine
from plumage.data.dataset.store import SCHEMA
from plumage.data.dataset.thumbnail import thumbnail
from plumage.data.sources.photo import Load
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
        small = thumbnail(luma).tobytes()
        brightness = round(sum(small) / len(small))
        sha256 = hashlib.sha256(photo.data).digest()
        rows.append((photo.key, photo.label, photo.part, width, height, brightness, sha256, small, photo.data))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in SCHEMA]
    batch = pa.record_batch(columns, schema=SCHEMA)
    return Checked(batch.serialize().to_pybytes(), refused, mended, len(photos))
