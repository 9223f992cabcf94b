"""data/splits.csv: the split of each photo: train, val (for choosing), test (for the final metrics) or unused."""

import csv
import hashlib
from pathlib import Path

from plumage.common.files import atomic_path, read_output
from plumage.common.tables import guarded, read_rows
from plumage.data.dataset.store import Dataset
from plumage.errors import DataError

SPLITS = ("train", "val", "test")  # from the least to the most strict
UNUSED = "unused"
"""The split of a photo that is left out: data/labels.csv refuses it, or a stricter official split has the same picture."""


def write_splits(path: Path, keys: list[str], labels: list[str], splits: list[str]) -> None:
    """Write key, label, split: one row per photo, sorted by key."""
    with atomic_path(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", "label", "split"])
        rows = sorted(zip(keys, labels, splits, strict=True))
        writer.writerows((guarded(key), guarded(label), split) for key, label, split in rows)


def read_split(path: Path, dataset: Dataset) -> tuple[Dataset, dict[str, list[int]]]:
    """Return `dataset` with the labels of splits.csv, which may be corrected ones, and its rows of each of train, val and test.

    Raises:
        DataError: the file can't be read, or belongs to other photos than `dataset`.
    """
    known: dict[str, str] = {}  # equal labels are one string
    try:
        rows = {row["key"]: (known.setdefault(row["label"], row["label"]), row["split"]) for row in read_rows(path)}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: can't be read ({error}); run `dvc repro split`") from None
    if rows.keys() != set(dataset.keys):
        raise DataError(f"{path}: was drawn from other photos than the data set holds; run `dvc repro split`")
    if unknown := {split for _, split in rows.values()} - {*SPLITS, UNUSED}:
        raise DataError(f"{path}: has the split {unknown.pop()!r}; takes {', '.join(SPLITS)}; run `dvc repro split`")
    rows_of: dict[str, list[int]] = {split: [] for split in (*SPLITS, UNUSED)}
    for number, key in enumerate(dataset.keys):
        rows_of[rows[key][1]].append(number)
    return dataset.relabelled([rows[key][0] for key in dataset.keys]), {split: rows_of[split] for split in SPLITS}


def read_near_duplicates(path: Path, dataset: Dataset) -> list[list[int]]:
    """Return the groups of near-duplicates in split.json as rows of `dataset`.

    Raises:
        PipelineError: the file is missing or damaged.
        DataError: it names photos that `dataset` lacks.
    """
    groups = [[photo["key"] for photo in group] for group in read_output(path)["near_duplicates"]]
    wanted = {key for group in groups for key in group}
    row_of = {key: row for row, key in enumerate(dataset.keys) if key in wanted}
    if len(row_of) < len(wanted):
        raise DataError(f"{path}: belongs to other photos than the data set holds; run `dvc repro split`")
    return [[row_of[key] for key in group] for group in groups]


def rows_hash(dataset: Dataset, rows: list[int]) -> str:
    """SHA-256 of the photos in `rows`: of their bytes and labels, regardless of order and file names."""
    hashes = dataset.bytes_column("sha256")
    photos = sorted(f"{hashes[row].tobytes().hex()} {dataset.labels[row]}" for row in rows)
    return hashlib.sha256("\n".join(photos).encode()).hexdigest()
