"""Export photos from the data set in their original bytes: one by its key, or all as class folders."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from plumage.common.class_names import class_identity
from plumage.common.files import atomic_path, is_full
from plumage.common.progress import track
from plumage.common.tables import read_rows
from plumage.data.dataset.store import Dataset
from plumage.data.sources.layout import PHOTO_SUFFIXES
from plumage.data.sources.names import is_system_file
from plumage.data.sources.photo import SUFFIXES, suffix_by_content
from plumage.data.split.close_matches import nearest
from plumage.data.split.decisions import Decisions, apply_decisions
from plumage.data.split.splits_file import read_split
from plumage.errors import DataError

MAX_NAME_BYTES = 200  # file systems allow 255; the rest is for a suffix, and a hash that keeps equal names apart


class Shown(NamedTuple):
    """A photo that was written to a file, with its columns in the data set."""

    file: Path
    key: str
    label: str
    official_split: str | None  # the split that the source assigns
    split: str | None  # the split in data/splits.csv; None when it isn't there
    width: int
    height: int
    bytes: int


def show_photo(dataset: Dataset, key: str, splits: Path, to: Path | None = None, force: bool = False) -> Shown:
    """Write the photo `key` to the file `to`, or under its own name into the folder `to` (default: the current one).

    Raises:
        DataError: the key is unknown (the message has similar ones), or the file exists and `force` isn't set.
    """
    row = _find(dataset, key)
    photo = dataset.photo(row)
    file = to if to and not to.is_dir() else (to or Path()) / _own_name(key, photo)
    if file.is_dir() or (file.exists() and not force):
        raise DataError(f"{file} exists already; use --force to overwrite it, or another --to")
    try:
        with atomic_path(file) as beside:
            beside.write_bytes(photo)
    except OSError as error:
        if is_full(error):
            raise
        raise DataError(f"{file}: can't be written ({error.strerror}); use another --to") from None
    width, height = dataset.column("width")[row], dataset.column("height")[row]
    official_split, split = dataset.official_splits[row], _split_of(splits, key)
    return Shown(file, key, dataset.labels[row], official_split, split, width, height, len(photo))


def export_photos(dataset: Dataset, folder: Path, splits: Path | None, decisions: Decisions | None = None) -> int:
    """Write the photos as <class>/<file> into the new or empty `folder`, and return their number.

    Classes are those after `decisions`, without the refused photos. With `splits` (data/splits.csv), write
    <split>/<class>/<file> without the unused photos. Names are made safe: nothing is written outside `folder`, and no file
    overwrites another. The folder appears completely or not at all.

    Raises:
        DataError: the folder isn't empty, or can't be written.
    """
    target = folder.resolve()
    if target == Path.cwd():
        raise DataError(f"{folder}: is the current folder; takes a new or an empty one")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{folder}: exists and is not an empty folder; takes a new or an empty one")
    if splits is None:
        dataset, kept, *_ = apply_decisions(decisions or {}, dataset)
        rows = [("", row) for row in kept]
    else:
        dataset, rows_of = read_split(splits, dataset)
        rows = [(f"{split}/", row) for split, of_split in rows_of.items() for row in of_split]
    try:
        with atomic_path(target) as beside:
            made: set[str] = set()
            for name, row in track(_file_names(dataset, rows), "photos", len(rows)):
                parent = name.rpartition("/")[0]
                if parent not in made:
                    (beside / parent).mkdir(parents=True)
                    made.add(parent)
                (beside / name).write_bytes(dataset.photo(row))
    except OSError as error:
        if is_full(error):
            raise
        raise DataError(f"{folder}: can't be written ({error.strerror}); takes a writable folder") from None
    return len(rows)


def _file_names(dataset: Dataset, rows: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Yield the path in the exported folder and the row of each photo in `rows` (the folder above its class, and its row)."""
    folders: dict[str, str] = {}
    taken_folders: set[str] = set()
    for label in dataset.classes:
        folders[label] = _unique_name(_safe(label), "", label, taken_folders)
    taken: dict[str, set[str]] = {}
    for above, row in rows:
        key, folder = dataset.keys[row], above + folders[dataset.labels[row]]
        stem, suffix = _stem_and_suffix(key)
        if suffix.lower() not in PHOTO_SUFFIXES:  # without a photo's suffix, a source would pass it over
            stem, suffix = stem + suffix, _suffix_of(dataset.photo(row))
        yield f"{folder}/{_unique_name(stem, suffix, key, taken.setdefault(folder, set()))}", row


def _unique_name(stem: str, suffix: str, origin: str, taken: set[str]) -> str:
    """Join `stem` and `suffix`, with a hash of `origin` in between if a source would take the name for another one's."""
    names = [f"{stem}{suffix}"]
    digest = hashlib.sha256(origin.encode()).hexdigest()
    names += [f"{stem}-{digest[:length]}{suffix}" for length in (8, 16, 32)]
    for name in names:
        plain = class_identity(name)
        if plain not in taken:
            taken.add(plain)
            return name
    raise DataError(f"{origin!r}: no free file name among {len(taken):,} others")


def _own_name(key: str, photo: memoryview) -> str:
    """The last segment of the key, with a suffix that fits the photo's format."""
    stem, suffix = _stem_and_suffix(key)
    proper = _suffix_of(photo)
    fitting = next((suffixes for suffixes in SUFFIXES.values() if proper in suffixes), (proper,))
    if suffix.lower() in fitting:
        return stem + suffix
    return (stem if suffix.lower() in PHOTO_SUFFIXES else stem + suffix) + proper


def _stem_and_suffix(key: str) -> tuple[str, str]:
    """The last segment of a key, made safe and cut at its last dot."""
    name = _safe(key.rpartition("/")[2])
    stem, dot, suffix = name.rpartition(".")
    return (stem, f".{suffix}") if stem and dot else (name, "")


def _suffix_of(photo: memoryview) -> str:
    return (
        suffix_by_content(photo) or ".ppm"
    )  # photos of the data set have been decoded, and rare kinds of PPM show nothing


def _safe(name: str) -> str:
    """Make `name` a safe name for a file or folder: a single segment, not hidden, not too long. Safe names stay as they are."""
    safe = "".join("_" if character in "/\\\x7f" or character < " " else character for character in name)
    encoded = safe.encode("utf-8", "replace")
    if len(encoded) > MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
        stem, dot, suffix = safe.rpartition(".")
        kept = f"{dot}{suffix}" if stem and f".{suffix.lower()}" in PHOTO_SUFFIXES else ""
        safe = f"{encoded[: MAX_NAME_BYTES - 20].decode('utf-8', 'ignore')}-{digest}{kept}"
    if not safe.strip() or is_system_file(safe):
        return f"_{safe.strip()}"
    return safe


def _find(dataset: Dataset, key: str) -> int:
    if key in dataset.keys:
        return dataset.keys.index(key)
    near = nearest(key, dataset.keys)
    hint = f"similar keys: {', '.join(near)}" if near else "a key is a path inside the source, as in data/splits.csv"
    raise DataError(f"no photo has the key {key!r}; {hint}")


def _split_of(splits: Path, key: str) -> str | None:
    try:
        return next((row["split"] for row in read_rows(splits) if row["key"] == key), None)
    except FileNotFoundError:
        return None
