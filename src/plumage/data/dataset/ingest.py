"""Write a source's photos into the data set: check each photo, list the refused ones, drop duplicates."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from plumage.common.files import atomic_path
from plumage.common.progress import Progress
from plumage.common.workers import map_in_processes
from plumage.data.dataset.check import check_photos
from plumage.data.dataset.duplicates import resolve_equal
from plumage.data.dataset.store import Dataset, leave_out, read_batch, write_dataset
from plumage.data.sources.photo import Source
from plumage.errors import DataError

LISTED = 1000
"""The number of refused photos that the error for too many lists."""


def ingest(source: Source, folder: Path, min_size: int, max_refused: float) -> dict[str, Any]:
    """Write the usable photos of `source` into the data set `folder`, and return the report (reports/data.json).

    The folder appears completely or not at all.

    Raises:
        DataError: more than a share `max_refused` of the photos is refused (the message lists them), no photo is left, or
            two photos have the same key.
    """
    refused: list[dict[str, str]] = []
    repaired: Counter[str] = Counter()

    def usable() -> Iterator[pa.RecordBatch]:
        with Progress("photos", len(source)) as progress:
            for checked in map_in_processes(partial(check_photos, min_size=min_size), source.chunks()):
                refused.extend({"key": key, "reason": reason} for key, reason in checked.refused)
                repaired.update(checked.repaired)
                batch = read_batch(checked.rows)
                if len(batch):
                    yield batch
                progress.advance(checked.total)

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
        if len(dataset) == len(left_out):
            raise DataError("no photo is left; takes a source with usable photos")
        if left_out:
            leave_out(beside, left_out)
            dataset = Dataset(beside)
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
    return {**source.about, **report}


def _conflict(photo: dict[str, str], photos: list[dict[str, str]]) -> dict[str, str]:
    others = ", ".join(other["key"] for other in photos if other is not photo)
    return {"key": photo["key"], "reason": f"label conflict (the same bytes as {others})"}


def _check_refused(refused: list[dict[str, str]], total: int, max_refused: float) -> None:
    if len(refused) <= max_refused * total:
        return
    lines = [f"  {photo['key']}: {photo['reason']}" for photo in refused[:LISTED]]
    if len(refused) > LISTED:
        lines.append(f"  ... and {len(refused) - LISTED:,} more")
    raise DataError(
        f"{len(refused):,} of {total:,} photos are refused, more than data.max_refused: {max_refused:g} of all; repair "
        "or remove them, or raise it\n" + "\n".join(lines)
    )
