"""Recognises the labelled photos among the files of a folder or an archive.

Known layouts: class folders, or splits (keys of SPLIT_NAMES in any case) with class folders; both inside any wrapping folders.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from plumage.data.sources.photo import SUFFIXES
from plumage.errors import DataError

SPLIT_NAMES = {"train": "train", "valid": "val", "validation": "val", "val": "val", "test": "test"}
PHOTO_SUFFIXES = set().union(*SUFFIXES.values())
EXPECTED = "takes <class>/<photo>, or train|valid|test/<class>/<photo>"
PHOTOS_PER_CHUNK = 64
BYTES_PER_CHUNK = 8 * 1024**2


class Found(NamedTuple):
    """A photo that was found: its `name` in the folder or archive, its `key` (the name below the wrapping folders)."""

    name: str
    key: str
    label: str
    split: str | None
    size: int  # in bytes


def recognise(files: Mapping[str, int], where: str) -> tuple[list[Found], dict[str, Any]]:
    """Find the photos among `files` (size in bytes by name); return them sorted by key, and what the report says of the rest.

    Raises:
        DataError: there are no photos, or they don't have a known layout; it names `where`.
    """
    photos: list[str] = []  # names only, split again on each use: the segments of a million names would fill the memory
    passed_over: Counter[str] = Counter()
    for name in files:
        *folders, last = _segments(name)
        if last.startswith(".") or any(folder.startswith(".") or folder == "__MACOSX" for folder in folders):  # hidden
            continue
        suffix = _suffix(last)
        if suffix in PHOTO_SUFFIXES:
            photos.append(name)
        else:
            passed_over[suffix or "(none)"] += 1
    if not photos:
        raise DataError(f"{where}: holds no photos; {EXPECTED}")
    depth = _wrapping_depth(photos)
    has_splits = all(_is_split_layout(segments, depth) for segments in map(_segments, photos))
    misplaced = [name for name in photos if len(_segments(name)) != depth + (3 if has_splits else 2)]
    if misplaced:
        raise DataError(
            f"{where}: {'/'.join(_segments(misplaced[0])[depth:])} is not in a class folder of the layout "
            f"({len(misplaced)} such photos); {EXPECTED}"
        )
    label_of, merged = merge_spellings(Counter(_segments(name)[-2] for name in photos))
    found = []
    for name in photos:
        segments = _segments(name)
        key = "/".join(segments[depth:])
        split = SPLIT_NAMES[segments[depth].lower()] if has_splits else None
        found.append(Found(name, name if key == name else key, label_of[segments[-2]], split, files[name]))
    found.sort(key=lambda photo: photo.key)
    return found, {"passed_over": dict(sorted(passed_over.items())), "merged_classes": merged}


def merge_spellings(labels: Counter[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Map each of the counted labels to its class, and each class with several spellings to these.

    Labels that differ only in case or spaces name one class, under the most frequent spelling.
    """
    spellings: dict[str, Counter[str]] = {}
    for name, count in labels.items():
        spellings.setdefault(" ".join(name.split()).casefold(), Counter())[name] = count
    label_of = {name: _best_spelling(counts) for counts in spellings.values() for name in counts}
    merged = {_best_spelling(counts): sorted(counts) for counts in spellings.values() if len(counts) > 1}
    return label_of, dict(sorted(merged.items()))


def in_chunks(found: list[Found]) -> Iterator[list[Found]]:
    """Cut `found` into runs of at most PHOTOS_PER_CHUNK photos and BYTES_PER_CHUNK bytes; a larger photo is a run by itself."""
    run: list[Found] = []
    size = 0
    for photo in found:
        if run and (len(run) == PHOTOS_PER_CHUNK or size + photo.size > BYTES_PER_CHUNK):
            yield run
            run, size = [], 0
        run.append(photo)
        size += photo.size
    if run:
        yield run


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot else ""


def _segments(name: str) -> list[str]:
    """The folders and the file name in a path, without a leading ./ or /, which many archives have."""
    segments = name.split("/")
    return segments[1:] if segments[0] in (".", "") and len(segments) > 1 else segments


def _is_split_layout(segments: list[str], depth: int) -> bool:
    """Whether a path is <split>/<class>/<photo> below `depth` wrapping folders."""
    return len(segments) == depth + 3 and segments[depth].lower() in SPLIT_NAMES


def _wrapping_depth(photos: list[str]) -> int:
    """The number of folders that all photos share above their classes or splits."""
    first, depth = _segments(photos[0]), 0
    while all(len(segments) > depth + 2 and segments[depth] == first[depth] for segments in map(_segments, photos)):
        if all(_is_split_layout(segments, depth) for segments in map(_segments, photos)):
            break
        depth += 1
    return depth


def _best_spelling(counts: Counter[str]) -> str:
    """The most frequent spelling, with single spaces between words; the first in alphabetical order among equals."""
    tidy: Counter[str] = Counter()
    for name, count in counts.items():
        tidy[" ".join(name.split())] += count
    return min(tidy, key=lambda name: (-tidy[name], name))
