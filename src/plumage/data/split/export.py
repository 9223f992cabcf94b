"""Photos out of the data set again, in their original bytes: one by its key, or all of them as class folders."""

import bisect
import csv
import difflib
import hashlib
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from plumage.common.files import atomic_path
from plumage.common.progress import track
from plumage.data.dataset.store import Dataset
from plumage.data.sources.formats import FORMATS, SUFFIXES
from plumage.data.sources.layout import PHOTO_SUFFIXES
from plumage.data.split.splits_file import read_split
from plumage.errors import DataError

SUFFIX_OF = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}
"""By format; any other's is its name."""
MAX_NAME_BYTES = 200
"""File systems take 255, of which a suffix and what tells equal names apart need some."""
COMPARED = 2000


class Shown(NamedTuple):
    """A photo that was written to a file, and what the data set knows about it."""

    file: Path
    key: str
    label: str
    part: str | None
    """The one that the source gave it."""
    split: str | None
    """The one that it is used in, or None when no split has it."""
    width: int
    height: int
    bytes: int


def show_photo(dataset: Dataset, key: str, splits: Path, to: Path | None = None, force: bool = False) -> Shown:
    """Write the photo `key` as it is to the file `to`, or into the folder `to` (default: the current one) by its own name.

    DataError for an unknown key, which names the nearest, and for a file that is there already, unless `force`.
    """
    row = _find(dataset, key)
    photo = dataset.photo(row)
    file = to if to and not to.is_dir() else (to or Path()) / _own_name(key, photo)
    if file.is_dir() or (file.exists() and not force):
        raise DataError(f"{file} is there already; takes --force to write over it, or another --to")
    try:
        with atomic_path(file) as beside:
            beside.write_bytes(photo)
    except OSError as error:
        raise DataError(f"{file}: can't be written ({error.strerror}); takes another --to") from None
    width, height = dataset.column("width")[row], dataset.column("height")[row]
    part, split = dataset.parts[row], _split_of(splits, key)
    return Shown(file, key, dataset.labels[row], part, split, width, height, len(photo))


def export_photos(dataset: Dataset, folder: Path, splits: Path | None) -> int:
    """Write the photos as <class>/<file> into the new or empty `folder`, and return how many.

    With `splits` (data/splits.csv) as <part>/<class>/<file>, without the unused ones. A file is called as its key ends,
    a folder as its class, but made safe: nothing is written outside `folder`, and no file over another. The folder
    appears whole or not at all. DataError when it can't.
    """
    target = folder.resolve()
    if target == Path.cwd():
        raise DataError(f"{folder}: is the folder you are in; takes the name of a new one")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{folder}: is there already and not an empty folder; takes a new or an empty one")
    rows = [("", row) for row in range(len(dataset))]
    if splits is not None:
        rows = [(f"{part}/", row) for part, of_part in read_split(splits, dataset).items() for row in of_part]
    try:
        with atomic_path(target) as beside:
            made: set[str] = set()
            for name, row in track(_placed(dataset, rows), "photos", len(rows)):
                parent = name.rpartition("/")[0]
                if parent not in made:
                    (beside / parent).mkdir(parents=True)
                    made.add(parent)
                (beside / name).write_bytes(dataset.photo(row))
    except OSError as error:
        raise DataError(
            f"{folder}: can't be written ({error.strerror}); takes another folder, or room for it"
        ) from None
    return len(rows)


def _placed(dataset: Dataset, rows: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """The file, from the exported folder, of each of `rows` (the folder above its class, and its row)."""
    folders: dict[str, str] = {}
    taken_folders: set[str] = set()
    for label in dataset.classes:
        folders[label] = _untaken(_safe(label), "", label, taken_folders)
    taken: dict[str, set[str]] = {}
    for above, row in rows:
        key, folder = dataset.keys[row], above + folders[dataset.labels[row]]
        stem, suffix = _stem_and_suffix(key)
        if suffix.lower() not in PHOTO_SUFFIXES:  # as a folder of photos it would be passed over
            stem, suffix = stem + suffix, _suffix_of(dataset.photo(row))
        yield f"{folder}/{_untaken(stem, suffix, key, taken.setdefault(folder, set()))}", row


def _untaken(stem: str, suffix: str, origin: str, taken: set[str]) -> str:
    """`stem` and `suffix`; where that is taken, also in other case or spaces, a hash of `origin` between them."""
    names = [f"{stem}{suffix}"]
    digest = hashlib.sha256(origin.encode()).hexdigest()
    names += [f"{stem}-{digest[:length]}{suffix}" for length in (8, 16, 32)]
    for name in names:
        plain = " ".join(name.split()).casefold()
        if plain not in taken:
            taken.add(plain)
            return name
    raise DataError(f"{origin!r}: finds no name of its own among {len(taken):,} others")


def _own_name(key: str, photo: memoryview) -> str:
    """The last part of the key, with a suffix that fits the photo's format."""
    stem, suffix = _stem_and_suffix(key)
    right = _suffix_of(photo)
    fitting = next((suffixes for suffixes in SUFFIXES.values() if right in suffixes), {right})
    if suffix.lower() in fitting:
        return stem + suffix
    return (stem if suffix.lower() in PHOTO_SUFFIXES else stem + suffix) + right


def _stem_and_suffix(key: str) -> tuple[str, str]:
    """The safe last part of a key, cut at its last dot."""
    name = _safe(key.rpartition("/")[2])
    stem, dot, suffix = name.rpartition(".")
    return (stem, f".{suffix}") if stem and dot else (name, "")


def _suffix_of(photo: memoryview) -> str:
    with Image.open(io.BytesIO(photo), formats=FORMATS) as image:
        return SUFFIX_OF.get(image.format or "", f".{(image.format or '').lower()}")


def _safe(name: str) -> str:
    """`name` as one file or folder name: no way up or elsewhere, not hidden, not too long; unchanged when it is one."""
    safe = "".join("_" if character in "/\\\x7f" or character < " " else character for character in name)
    encoded = safe.encode("utf-8", "replace")
    if len(encoded) > MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
        stem, dot, suffix = safe.rpartition(".")
        kept = f"{dot}{suffix}" if stem and f".{suffix.lower()}" in PHOTO_SUFFIXES else ""
        safe = f"{encoded[: MAX_NAME_BYTES - 20].decode('utf-8', 'ignore')}-{digest}{kept}"
    if not safe.strip() or safe.startswith(".") or safe == "__MACOSX":
        return f"_{safe.strip()}"
    return safe


def _find(dataset: Dataset, key: str) -> int:
    try:
        return dataset.keys.index(key)
    except ValueError:
        pass
    near = _nearest(key, dataset.keys)
    hint = f"the nearest are {', '.join(near)}" if near else "a key is a path inside the source, as in data/splits.csv"
    raise DataError(f"no photo has the key {key!r}; {hint}")


def _nearest(wanted: str, keys: list[str]) -> list[str]:
    """Up to three keys like `wanted`: those that hold it, else of its neighbours in the alphabet and those that end alike.

    To compare it with all of a million would take a minute.
    """
    by_lower = {key.lower(): key for key in keys}
    wanted = wanted.lower()
    like, cutoff = [key for key in by_lower if wanted in key], 0.0
    if not like:
        ordered, end, cutoff = sorted(by_lower), "/" + wanted.rpartition("/")[2], 0.6
        place = bisect.bisect(ordered, wanted)
        like = [*ordered[max(0, place - 200) : place + 200], *(key for key in ordered if key.endswith(end))]
    near = difflib.get_close_matches(wanted, dict.fromkeys(like[:COMPARED]), n=3, cutoff=cutoff)
    return [by_lower[key] for key in near]


def _split_of(splits: Path, key: str) -> str | None:
    try:
        with splits.open(newline="", encoding="utf-8") as file:
            rows = islice(csv.reader(file), 1, None)
            return next((split for known, _, split in rows if known == key), None)
    except FileNotFoundError:
        return None
