"""Exact duplicates: copies in one class are kept once, copies in several classes (a label conflict) are all left out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.data.dataset.store import Dataset


def equal_photos(sha256: NDArray[np.uint8]) -> list[list[int]]:
    """Group the rows of equal photos by their hashes (photos x 32): one list per photo with copies, rows in order."""
    _, photo, copies = np.unique(sha256.view("S32").ravel(), return_inverse=True, return_counts=True)
    groups: dict[int, list[int]] = {}
    for row in np.flatnonzero(copies[photo] > 1).tolist():
        groups.setdefault(int(photo[row]), []).append(row)
    return list(groups.values())


def resolve_equal(dataset: Dataset) -> tuple[set[int], list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Return the rows to leave out of `dataset`, and the report's duplicates (kept photo and copies) and label conflicts."""
    left_out: set[int] = set()
    duplicates: list[dict[str, Any]] = []
    conflicts: list[list[dict[str, Any]]] = []
    for rows in equal_photos(dataset.bytes_column("sha256")):
        photos = [
            {"key": dataset.keys[row], "label": dataset.labels[row], "split": dataset.official_splits[row]}
            for row in rows
        ]
        if len({photo["label"] for photo in photos}) > 1:
            left_out.update(rows)
            conflicts.append(photos)
        else:
            left_out.update(rows[1:])
            duplicates.append({**photos[0], "copies": photos[1:]})
    return left_out, duplicates, conflicts
