"""The same photo, byte for byte, more than once: kept once in its class, and in two classes not at all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.data.dataset.store import Dataset


def equal_photos(sha256: NDArray[np.uint8]) -> list[list[int]]:
    """The rows of photos that come more than once, from their hashes (photos x 32): a list a photo, rows in order."""
    _, photo, copies = np.unique(sha256.view("S32").ravel(), return_inverse=True, return_counts=True)
    groups: dict[int, list[int]] = {}
    for row in np.flatnonzero(copies[photo] > 1).tolist():
        groups.setdefault(int(photo[row]), []).append(row)
    return list(groups.values())


def resolve_equal(dataset: Dataset) -> tuple[set[int], list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """The rows to leave out of `dataset`; the duplicates (which photo is kept, which copies are not) and the label
    conflicts (the photos of each), both as they stand in the report.
    """
    left_out: set[int] = set()
    duplicates: list[dict[str, Any]] = []
    conflicts: list[list[dict[str, Any]]] = []
    for rows in equal_photos(dataset.bytes_column("sha256")):
        photos = [{"key": dataset.keys[row], "label": dataset.labels[row], "part": dataset.parts[row]} for row in rows]
        if len({photo["label"] for photo in photos}) > 1:
            left_out.update(rows)
            conflicts.append(photos)
        else:
            left_out.update(rows[1:])
            duplicates.append({**photos[0], "copies": photos[1:]})
    return left_out, duplicates, conflicts
