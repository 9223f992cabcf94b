"""Recognises the labelled photos among the file names of a folder or an archive.

Class folders over photos, or parts (train, valid, validation, val, test in any case) over class folders; either may lie in
wrapping folders.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from plumage.errors import DataError

PART_NAMES = {"train": "train", "valid": "val", "validation": "val", "val": "val", "test": "test"}
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
EXPECTED = "takes <class>/<photo>, or train|valid|test/<class>/<photo>"


@dataclass(frozen=True)
class Found:
    """A photo's place: `name` as the folder or archive has it, `key` below the wrapping folders, its label and part."""

    name: str
    key: str
    label: str
    part: str | None


def recognise(names: list[str], where: str) -> tuple[list[Found], Counter[str]]:
    """The photos among `names`, sorted by key, and the number of files passed over by suffix (hidden ones apart).

    Class names that differ only in case or spaces are one class, by its most frequent spelling. DataError, naming
    `where`, when there are no photos or they lie in no such layout.
    """
    paths = [path for path in map(PurePosixPath, names) if not any(p[0] == "." or p == "__MACOSX" for p in path.parts)]
    photos = [path for path in paths if path.suffix.lower() in PHOTO_SUFFIXES]
    passed_over = Counter(
        path.suffix.lower() or "(none)" for path in paths if path.suffix.lower() not in PHOTO_SUFFIXES
    )
    if not photos:
        raise DataError(f"{where}: holds no photos; {EXPECTED}")
    depth = _wrapping(photos)
    inner = [PurePosixPath(*path.parts[depth:]) for path in photos]
    in_parts = all(len(path.parts) == 3 and path.parts[0].lower() in PART_NAMES for path in inner)
    odd = [path for path in inner if len(path.parts) != (3 if in_parts else 2)]
    if odd:
        raise DataError(f"{where}: {odd[0]} lies in no class folder of the layout ({len(odd)} such photos); {EXPECTED}")
    spellings: dict[str, Counter[str]] = {}
    for path in inner:
        spellings.setdefault(_folded(path.parts[-2]), Counter())[" ".join(path.parts[-2].split())] += 1
    names_of = {folded: min(counts, key=lambda name: (-counts[name], name)) for folded, counts in spellings.items()}
    found = [
        Found(
            name=str(path),
            key=str(below),
            label=names_of[_folded(below.parts[-2])],
            part=PART_NAMES[below.parts[0].lower()] if in_parts else None,
        )
        for path, below in zip(photos, inner, strict=True)
    ]
    return sorted(found, key=lambda photo: photo.key), passed_over


def _wrapping(photos: list[PurePosixPath]) -> int:
    """The number of folders that all photos share above their classes or parts."""
    depth = 0
    while len({path.parts[depth] for path in photos}) == 1 and all(len(path.parts) > depth + 2 for path in photos):
        if photos[0].parts[depth].lower() in PART_NAMES and all(len(path.parts) == depth + 3 for path in photos):
            break
        depth += 1
    return depth


def _folded(label: str) -> str:
    return " ".join(label.split()).casefold()
