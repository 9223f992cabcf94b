"""Write a source's photos into the data set: check each photo, list the refused ones, drop exact duplicates.

Of copies in one class one is kept; copies in several classes (a label conflict) are all left out.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from plumage.common.class_names import ClassNames
from plumage.common.files import atomic_path
from plumage.common.progress import Progress
from plumage.common.text import plural, some_lines
from plumage.common.workers import begin, map_in_processes
from plumage.config import MAX_PIXELS
from plumage.data.dataset.class_rules import (
    refuse_empty_classes,
    refuse_lost_classes,
    refuse_single_class,
    refuse_unknown_classes,
)
from plumage.data.dataset.decode import INSTALL_HEIC, NEEDS_PILLOW_HEIF, examine
from plumage.data.dataset.store import SCHEMA, Dataset, leave_out, read_batch, with_labels, write_dataset
from plumage.data.dataset.thumbnail import thumbnail
from plumage.data.sources.layout import in_words
from plumage.data.sources.photo import Chunk, Source
from plumage.errors import DataError, PhotoError

NO_CHANGES = ClassNames({})
LISTED = 1000  # the number of refused photos that the error for too many lists


def ingest(
    source: Source,
    folder: Path,
    min_size: int,
    max_refused: float,
    max_pixels: int = MAX_PIXELS,
    processes: int | None = None,
    names: ClassNames = NO_CHANGES,
    before_replacing: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write the usable photos of `source` into the data set `folder`, and return the report (reports/data.json).

    The folder appears completely or not at all; `before_replacing` may raise to keep the old one. `processes` check the photos
    (None: one per core), so that one that crashes its decoder or hangs is refused, too; 0: this process does, which saves a
    second and isn't safe from these. `names` says what each class is called.

    Raises:
        DataError: more than a share `max_refused` of the photos is refused (the message lists them), a class ends up without
            a photo, there are fewer than two classes, two photos have the same key, or `names` has a class that isn't there.
    """
    refuse_empty_classes(source.about.get("empty_classes", {}))
    refused: list[dict[str, str]] = []
    repaired: Counter[str] = Counter()
    found: set[str] = set()

    def usable() -> Iterator[pa.RecordBatch]:
        with Progress("photos", len(source)) as progress:
            check = partial(check_photos, min_size=min_size, max_pixels=max_pixels)
            checked = map_in_processes(check, source.chunks(), processes)
            for rows, refused_here, repaired_here, total in checked:
                batch = read_batch(rows)
                if names:
                    found.update(batch.column("label").to_pylist(), (photo["label"] for photo in refused_here))
                    batch = with_labels(batch, names)
                    refused_here = [{**photo, "label": names(photo["label"])} for photo in refused_here]
                refused.extend(refused_here)
                repaired.update(repaired_here)
                if len(batch):
                    yield batch
                progress.advance(total)

    with atomic_path(folder) as beside:
        write_dataset(beside, usable())
        dataset = Dataset(beside)
        if len(set(dataset.keys)) < len(dataset):
            (key, _), *_ = Counter(dataset.keys).most_common(1)
            raise DataError(f"{key}: two photos have this path in the source; takes one path per photo")
        left_out, duplicates, conflicts = resolve_equal(dataset)
        refused += [_conflict(photo, photos) for photos in conflicts for photo in photos]
        refused.sort(key=lambda photo: photo["key"])
        _check_refused(refused, len(source), max_refused)
        if left_out:
            leave_out(beside, left_out)
            dataset = Dataset(beside)
        refuse_unknown_classes(names, found)
        refuse_lost_classes(refused, dataset.classes)
        refuse_single_class(dataset.classes)
        report = {
            "photos": len(dataset),
            "bytes": sum(dataset.sizes()),
            "classes": len(dataset.classes),
            "splits": dict(sorted(Counter(split or "none" for split in dataset.official_splits).items())),
            "photos_per_class": dict(sorted(Counter(dataset.labels).items())),
            "repaired": dict(sorted(repaired.items())),
            "refused": refused,
            "duplicates": duplicates,
            "label_conflicts": conflicts,
        }
        if renamed := names.renamed(found):
            report["renamed_classes"] = renamed
        before_replacing()
    return {**source.about, **report}


def describe(report: dict[str, Any]) -> list[str]:
    """The report in a few lines: what is in the data set, and what isn't and why."""
    left_out = [f"{len(report[key]):,} {key.replace('_', ' ')}" for key in ("refused", "duplicates", "label_conflicts")]
    lines = [f"{report['photos']:,} photos of {report['classes']:,} classes; {', '.join(left_out)}"]
    if passed_over := report.get("passed_over"):
        total = sum(passed_over.values())
        lines.append(f"{plural(total, 'file')} passed over: {in_words(passed_over)}")
    if unlabelled := report.get("unlabelled"):
        lines.append(f"{unlabelled:,} photos without a label passed over")
    if encoding := report.get("name_encoding"):
        lines.append(
            f"names in the archive are not in UTF-8 and read as {encoding}; if classes look wrong, zip it again"
        )
    merged = report.get("merged_classes") or {}
    lines += [f"one class, {label!r}: {', '.join(map(repr, spellings))}" for label, spellings in merged.items()]
    renamed = report.get("renamed_classes") or {}
    lines += [f"{label!r} by data.classes: {', '.join(map(repr, old))}" for label, old in renamed.items()]
    return lines + heic_hint(report["refused"])


def _conflict(photo: dict[str, str], photos: list[dict[str, str]]) -> dict[str, str]:
    others = ", ".join(other["key"] for other in photos if other is not photo)
    return {"key": photo["key"], "label": photo["label"], "reason": f"label conflict (the same bytes as {others})"}


def heic_hint(refused: list[dict[str, str]]) -> list[str]:
    """The line, if any, that says how to read the HEIC photos among the refused ones."""
    count = sum(photo["reason"] == NEEDS_PILLOW_HEIF for photo in refused)
    return (
        [f"{count:,} refused because pillow-heif is missing; {INSTALL_HEIC}, then `dvc repro -f download`"]
        if count
        else []
    )


def _check_refused(refused: list[dict[str, str]], total: int, max_refused: float) -> None:
    if len(refused) <= max_refused * total:
        return
    lines = some_lines([f"{photo['key']}: {photo['reason']}" for photo in refused], LISTED) + heic_hint(refused)
    raise DataError(
        f"{len(refused):,} of {total:,} photos are refused, more than data.max_refused: {max_refused:g} of all; repair "
        "or remove them, or raise it",
        lines,
    )


def check_photos(
    chunk: Chunk, min_size: int, max_pixels: int = MAX_PIXELS, faults: Mapping[int, str] | None = None
) -> tuple[bytes, list[dict[str, str]], Counter[str], int]:
    """Read a chunk of photos and check each. A photo with a side under `min_size` pixels, or more than `max_pixels`, is refused.

    `faults` says of photos, by their place in the chunk, how they ended the process that checked them: they are refused.
    Return the usable photos (a record batch of the data set, as Arrow IPC), key, label and reason of each refused one, the
    number of usable photos by kind of repair, and the number of all.
    """
    rows, refused, repaired = [], [], Counter[str]()
    photos = chunk()
    for number, photo in enumerate(photos):
        try:
            if photo.problem:
                raise PhotoError(photo.problem)
            if faults and number in faults:
                raise PhotoError(f"its decoder {faults[number]}")
            begin(number)
            luma, (width, height), repairs = examine(photo.data, photo.key, max_pixels)
            if min(width, height) < min_size:
                raise PhotoError(
                    f"too small ({width} x {height} pixels; data.min_size asks for {min_size} or more per side)"
                )
        except PhotoError as error:
            refused.append({"key": photo.key, "label": photo.label, "reason": str(error)})
            continue
        repaired.update(repairs)
        small = thumbnail(luma).tobytes()
        brightness = round(sum(small) / len(small))
        sha256 = hashlib.sha256(photo.data).digest()
        rows.append((photo.key, photo.label, photo.split, width, height, brightness, sha256, small, photo.data))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in SCHEMA]
    batch = pa.record_batch(columns, schema=SCHEMA)
    return batch.serialize().to_pybytes(), refused, repaired, len(photos)


def equal_photos(sha256: NDArray[np.uint8]) -> list[list[int]]:
    """Group the rows of equal photos by their hashes (photos x 32): one list per photo with copies, rows in order."""
    _, photo, copies = np.unique(sha256.view("S32").ravel(), return_inverse=True, return_counts=True)
    groups: dict[int, list[int]] = {}
    for row in np.flatnonzero(copies[photo] > 1).tolist():
        groups.setdefault(int(photo[row]), []).append(row)
    return list(groups.values())


def resolve_equal(dataset: Dataset) -> tuple[set[int], list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Return the rows to leave out of `dataset`, and the report's duplicates (kept photo and copies) and label conflicts."""
    left_out: set[int] = set()
    duplicates: list[dict[str, Any]] = []
    conflicts: list[list[dict[str, Any]]] = []
    for rows in equal_photos(dataset.bytes_column("sha256")):
        photos = [
            {"key": dataset.keys[row], "label": dataset.labels[row], "split": dataset.official_splits[row]}
            for row in rows
        ]
        if len({photo["label"] for photo in photos}) > 1:
            left_out.update(rows)
            conflicts.append(photos)
        else:
            left_out.update(rows[1:])
            duplicates.append({**photos[0], "copies": photos[1:]})
    return left_out, duplicates, conflicts
