"""data/splits.csv: which photos are for training, for choosing (val) and for the final metrics (test)."""

import csv
import hashlib
from pathlib import Path

from plumage.common.files import atomic_path
from plumage.data.dataset.store import Dataset
from plumage.errors import DataError

PARTS = ("train", "val", "test")
UNUSED = "unused"
"""The part of a photo that is left out: an official split has it, or its like, in a stricter part."""


def write_splits(path: Path, keys: list[str], labels: list[str], parts: list[str]) -> None:
    """Write key, label, split, one row a photo, sorted by key."""
    with atomic_path(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", "label", "split"])
        writer.writerows(sorted(zip(keys, labels, parts, strict=True)))


def read_split(path: Path, dataset: Dataset) -> dict[str, list[int]]:
    """The data set's row numbers for each of train, val and test. DataError when the two don't belong together."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            part_of = {row["key"]: row["split"] for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise DataError(f"{path}: can't be read ({error}); run `dvc repro split`") from None
    if part_of.keys() != set(dataset.keys):
        raise DataError(f"{path}: was drawn from other photos than the data set holds; run `dvc repro split`")
    rows: dict[str, list[int]] = {part: [] for part in PARTS}
    for row, key in enumerate(dataset.keys):
        if part_of[key] != UNUSED:
            rows[part_of[key]].append(row)
    return rows


def rows_hash(dataset: Dataset, rows: list[int]) -> str:
    """SHA-256 of the photos in `rows`: their bytes and labels, whatever their order and file names."""
    hashes = dataset.bytes_column("sha256")
    photos = sorted(f"{hashes[row].tobytes().hex()} {dataset.labels[row]}" for row in rows)
    return hashlib.sha256("\n".join(photos).encode()).hexdigest()
