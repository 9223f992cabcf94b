"""Recall and precision of finding altered copies of photos."""

from pathlib import Path
from typing import Any

import numpy as np
from common import Rows  # isort: split

from altered import CHANGES, resaved, thumbnails
from support import read_all

from plumage.config import Split
from plumage.data.dataset.decode import decode
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.sample import draw_photo
from plumage.data.split.near_duplicates import group_near_duplicates

NOTE = (
    "An altered copy is added for each photo; `split.similarity` has its default. A pair is right when it is a photo and its "
    "copy."
)


def measure(parent: Path, photos: Path | None) -> Rows:
    """Measure on drawn photos, and on the real ones in the archive `photos`."""
    rows = found_again("sample", [draw_photo(0, species, number, 96) for species in range(100) for number in range(20)])
    if photos:
        source = ArchiveSource(photos, parent / "unpacked")
        rows += found_again(photos.name, [decode(photo.data) for photo in read_all(source)])
    return rows


def found_again(name: str, pictures: list[Any]) -> Rows:
    similarity = Split().similarity
    assert similarity is not None
    count = len(pictures)
    originals = [resaved(picture) for picture in pictures]
    rows = []
    for change, (alter, _) in CHANGES.items():
        rng = np.random.default_rng(0)
        copies = [alter(picture, rng) for picture in pictures]
        groups = group_near_duplicates(thumbnails(originals + copies), similarity)
        pairs = {(a, b) for group in groups for a in group for b in group if a < b}
        true = {(a, b) for a, b in pairs if b == a + count}
        rows.append({
            "photos": name, "copies": change, "pictures": count,
            "recall": len(true) / count, "precision": len(true) / max(1, len(pairs)),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows
