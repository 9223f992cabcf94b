"""data/splits.csv: the split of each photo: train, val (for choosing), test (for the final metrics) or unused."""

import csv
import hashlib
from pathlib import Path

from plumage.common.files import atomic_path
from plumage.common.tables import guarded, read_rows
from plumage.data.dataset.store import Dataset
from plumage.errors import DataError

SPLITS = ("train", "val", "test")  # from the least to the most strict
UNUSED = "unused"  # the split of a photo that is left out because a stricter official split has the same picture


def write_splits(path: Path, keys: list[str], labels: list[str], splits: list[str]) -> None:
    """Write key, label, split: one row per photo, sorted by key."""
    with atomic_path(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", "label", "split"])
        rows = sorted(zip(keys, labels, splits, strict=True))
        writer.writerows((guarded(key), guarded(label), split) for key, label, split in rows)


def read_split(path: Path, dataset: Dataset) -> dict[str, list[int]]:
    """Return the row numbers of `dataset` for each of train, val and test.

    Raises:
        DataError: the file can't be read, or belongs to other photos than `dataset`.
    """
    try:
        split_of = {row["key"]: row["split"] for row in read_rows(path)}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: can't be read ({error}); run `dvc repro split`") from None
    if split_of.keys() != set(dataset.keys):
        raise DataError(f"{path}: was drawn from other photos than the data set holds; run `dvc repro split`")
    if unknown := set(split_of.values()) - {*SPLITS, UNUSED}:
        raise DataError(f"{path}: has the split {unknown.pop()!r}; takes {', '.join(SPLITS)}; run `dvc repro split`")
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for row, key in enumerate(dataset.keys):
        if split_of[key] != UNUSED:
            rows[split_of[key]].append(row)
    return rows


def rows_hash(dataset: Dataset, rows: list[int]) -> str:
    """SHA-256 of the photos in `rows`: of their bytes and labels, regardless of order and file names."""
    hashes = dataset.bytes_column("sha256")
    photos = sorted(f"{hashes[row].tobytes().hex()} {dataset.labels[row]}" for row in rows)
    return hashlib.sha256("\n".join(photos).encode()).hexdigest()
