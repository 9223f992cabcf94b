"""Which photo is for training, for choosing (val), for the final figures (test).

A part is drawn class by class by the order of a hash of seed and key, so the same photos give the same split on any machine
and in any order, and a photo that comes or goes moves no photo of another class, and in its own only what rounding needs.
"""

import csv
import hashlib
from collections import Counter, defaultdict
from pathlib import Path

from plumage.data.store import Dataset
from plumage.errors import DataError
from plumage.files import atomic_path

PARTS = ("train", "val", "test")


def stratified_split(keys: list[str], labels: list[str], val: float, test: float, seed: int) -> list[str]:
    """A part for each photo: `test` of each class first, then `val` of the rest, each at least one photo.

    DataError names the classes that have fewer than one photo for each part.
    """
    _check_enough(Counter(labels), 3, "one for each of train, val and test")
    parts = ["train"] * len(keys)
    _draw(parts, keys, labels, "test", test, seed)
    _draw(parts, keys, labels, "val", val, seed)
    return parts


def official_split(
    keys: list[str], labels: list[str], given: list[str | None], val: float, test: float, seed: int
) -> list[str]:
    """The parts that the data set comes with; a part that it lacks is drawn, stratified, from its train.

    DataError when the data set has no train part, or a class has too few photos there.
    """
    if "train" not in given:
        raise DataError("split.strategy: official, but the data set comes without a train part; takes stratified here")
    parts = [part or "train" for part in given]
    missing = [part for part in ("test", "val") if part not in given]
    counts = Counter(label for label, part in zip(labels, parts, strict=True) if part == "train")
    counts.update({label: 0 for label in labels})
    _check_enough(
        counts, 1 + len(missing), f"in the official train part, one for each of {', '.join(['train', *missing])}"
    )
    for part in missing:
        _draw(parts, keys, labels, part, test if part == "test" else val, seed)
    return parts


def _check_enough(counts: Counter[str], needed: int, purpose: str) -> None:
    few = [f"{label!r} has {count}" for label, count in sorted(counts.items()) if count < needed]
    if few:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise DataError(f"too few photos in {', '.join(few[:5])}{more}; every class takes {needed} or more, {purpose}")


def _draw(parts: list[str], keys: list[str], labels: list[str], part: str, share: float, seed: int) -> None:
    """Move `share` of each class's train photos to `part`: at least one, and never the last."""
    rows = defaultdict(list)
    for row, label in enumerate(labels):
        if parts[row] == "train":
            rows[label].append(row)
    spare = 2 if part == "test" and "val" not in parts else 1
    for members in rows.values():
        members.sort(key=lambda row: hashlib.sha256(f"{seed}/{part}/{keys[row]}".encode()).digest())
        count = min(max(1, round(share * len(members))), len(members) - spare)
        for row in members[:count]:
            parts[row] = part


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
        rows[part_of[key]].append(row)
    return rows


def rows_hash(dataset: Dataset, rows: list[int]) -> str:
    """SHA-256 of the photos in `rows`: their bytes and labels, whatever their order and file names."""
    photos = sorted(f"{hashlib.sha256(dataset.photo(row)).hexdigest()} {dataset.labels[row]}" for row in rows)
    return hashlib.sha256("\n".join(photos).encode()).hexdigest()
