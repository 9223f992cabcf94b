"""Recognises the labelled photos among the files of a folder or an archive.

Class folders over photos, or parts (train, valid, validation, val, test in any case) over class folders; either may lie in
wrapping folders.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from plumage.data.sources.formats import SUFFIXES
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
    photos: list[str] = []  # names alone, taken apart again and again: the parts of a million would fill the memory
    passed_over: Counter[str] = Counter()
    for name in files:
        *folders, last = _parts(name)
        if last.startswith(".") or any(folder.startswith(".") or folder == "__MACOSX" for folder in folders):  # hidden
            continue
        suffix = _suffix(last)
        if suffix in PHOTO_SUFFIXES:
            photos.append(name)
        else:
            passed_over[suffix or "(none)"] += 1
    if not photos:
        raise DataError(f"{where}: holds no photos; {EXPECTED}")
    depth = _wrapping(photos)
    in_parts = all(len(parts) == depth + 3 and parts[depth].lower() in PART_NAMES for parts in map(_parts, photos))
    odd = [name for name in photos if len(_parts(name)) != depth + (3 if in_parts else 2)]
    if odd:
        raise DataError(
            f"{where}: {'/'.join(_parts(odd[0])[depth:])} lies in no class folder of the layout ({len(odd)} such photos); "
            f"{EXPECTED}"
        )
    label_of, merged = merge_spellings(Counter(_parts(name)[-2] for name in photos))
    found = []
    for name in photos:
        parts = _parts(name)
        key = "/".join(parts[depth:])
        part = PART_NAMES[parts[depth].lower()] if in_parts else None
        found.append(Found(name, name if key == name else key, label_of[parts[-2]], part, files[name]))
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


def _parts(name: str) -> list[str]:
    """A name's folders and its last part, without the ./ or / that archives like to begin with."""
    parts = name.split("/")
    return parts[1:] if parts[0] in (".", "") and len(parts) > 1 else parts


def _wrapping(photos: list[str]) -> int:
    """The number of folders that all photos share above their classes or parts."""
    first, depth = _parts(photos[0]), 0
    while all(len(parts) > depth + 2 and parts[depth] == first[depth] for parts in map(_parts, photos)):
        if first[depth].lower() in PART_NAMES and all(len(parts) == depth + 3 for parts in map(_parts, photos)):
            break
        depth += 1
    return depth


def _best_spelling(counts: Counter[str]) -> str:
    """The most frequent one, single spaces between its words; the first in order among equals."""
    tidy: Counter[str] = Counter()
    for name, count in counts.items():
        tidy[" ".join(name.split())] += count
    return min(tidy, key=lambda name: (-tidy[name], name))
