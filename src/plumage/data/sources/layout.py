"""Recognises the labelled photos among the files of a folder or an archive.

Class folders over photos, or parts (train, valid, validation, val, test in any case) over class folders; either may lie in
wrapping folders.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from plumage.data.decode import SUFFIXES
from plumage.errors import DataError

PART_NAMES = {"train": "train", "valid": "val", "validation": "val", "val": "val", "test": "test"}
PHOTO_SUFFIXES = set().union(*SUFFIXES.values())
EXPECTED = "takes <class>/<photo>, or train|valid|test/<class>/<photo>"
PHOTOS_PER_LOAD = 64
BYTES_PER_LOAD = 8 * 1024**2


class Found(NamedTuple):
    """A photo's place: `name` as the folder or archive has it, `key` below the wrapping folders, its label and part."""

    name: str
    key: str
    label: str
    part: str | None
    size: int
    """In bytes."""


def recognise(files: Mapping[str, int], where: str) -> tuple[list[Found], dict[str, Any]]:
    """The photos among `files` (their names with their sizes in bytes), sorted by key, and what the report says of the rest.

    Class names that differ only in case or spaces are one class, by its most frequent spelling. DataError, naming
    `where`, when there are no photos or they lie in no such layout.
    """
    photos: list[tuple[str, list[str]]] = []
    passed_over: Counter[str] = Counter()
    for name in files:
        parts = name.split("/")
        if parts[0] in (".", ""):  # archives like to begin with ./
            parts = parts[1:]
        if "/." in f"/{'/'.join(parts)}" or "__MACOSX" in parts:  # hidden
            continue
        suffix = _suffix(parts[-1])
        if suffix in PHOTO_SUFFIXES:
            photos.append((name, parts))
        else:
            passed_over[suffix or "(none)"] += 1
    if not photos:
        raise DataError(f"{where}: holds no photos; {EXPECTED}")
    depth = _wrapping([parts for _, parts in photos])
    in_parts = all(len(parts) == depth + 3 and parts[depth].lower() in PART_NAMES for _, parts in photos)
    odd = [parts[depth:] for _, parts in photos if len(parts) != depth + (3 if in_parts else 2)]
    if odd:
        raise DataError(
            f"{where}: {'/'.join(odd[0])} lies in no class folder of the layout ({len(odd)} such photos); {EXPECTED}"
        )
    label_of, merged = merge_spellings(Counter(parts[-2] for _, parts in photos))
    found = [
        Found(
            name=name,
            key="/".join(parts[depth:]),
            label=label_of[parts[-2]],
            part=PART_NAMES[parts[depth].lower()] if in_parts else None,
            size=files[name],
        )
        for name, parts in photos
    ]
    found.sort(key=lambda photo: photo.key)
    return found, {"passed_over": dict(sorted(passed_over.items())), "merged_classes": merged}


def merge_spellings(labels: Counter[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The class that each of the counted labels names, and the spellings of the classes that have several.

    Labels that differ only in case or spaces name one class, by the most frequent spelling.
    """
    spellings: dict[str, Counter[str]] = {}
    for name, count in labels.items():
        spellings.setdefault(" ".join(name.split()).casefold(), Counter())[name] = count
    label_of = {name: _best_spelling(counts) for counts in spellings.values() for name in counts}
    merged = {_best_spelling(counts): sorted(counts) for counts in spellings.values() if len(counts) > 1}
    return label_of, dict(sorted(merged.items()))


def in_loads(found: list[Found]) -> Iterator[list[Found]]:
    """`found` in runs of at most PHOTOS_PER_LOAD photos and, but for a single larger one, BYTES_PER_LOAD bytes."""
    run: list[Found] = []
    size = 0
    for photo in found:
        if run and (len(run) == PHOTOS_PER_LOAD or size + photo.size > BYTES_PER_LOAD):
            yield run
            run, size = [], 0
        run.append(photo)
        size += photo.size
    if run:
        yield run


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot else ""


def _wrapping(photos: list[list[str]]) -> int:
    """The number of folders that all photos share above their classes or parts."""
    depth = 0
    while len({parts[depth] for parts in photos}) == 1 and all(len(parts) > depth + 2 for parts in photos):
        if photos[0][depth].lower() in PART_NAMES and all(len(parts) == depth + 3 for parts in photos):
            break
        depth += 1
    return depth


def _best_spelling(counts: Counter[str]) -> str:
    """The most frequent one, single spaces between its words; the first in order among equals."""
    tidy: Counter[str] = Counter()
    for name, count in counts.items():
        tidy[" ".join(name.split())] += count
    return min(tidy, key=lambda name: (-tidy[name], name))
