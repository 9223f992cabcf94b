"""From a source's photos to the data set: every photo decoded and checked, the refused ones listed."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from plumage.data.loader import cores
from plumage.data.photo import Photo
from plumage.data.store import write_dataset
from plumage.data.transforms import decode
from plumage.errors import DataError, PhotoError
from plumage.files import atomic_path
from plumage.progress import track

PHOTOS_AHEAD = 64


def ingest(photos: Iterable[Photo], total: int, folder: Path) -> dict[str, Any]:
    """Write the photos that decode into the data set `folder`, and return the report on them (reports/data.json).

    The folder appears whole or not at all. DataError when a key comes twice or no photo is left.
    """
    refused: list[dict[str, str]] = []
    kept: list[tuple[str, str | None]] = []
    bytes_kept = 0

    def whole() -> Iterator[Photo]:
        nonlocal bytes_kept
        keys: set[str] = set()
        for photo, reason in _checked(track(photos, "photos", total)):
            if photo.key in keys:
                raise DataError(
                    f"{photo.key}: two photos have this path in the source; every photo takes a path of its own"
                )
            keys.add(photo.key)
            if reason:
                refused.append({"key": photo.key, "reason": reason})
                continue
            kept.append((photo.label, photo.part))
            bytes_kept += len(photo.data)
            yield photo

    with atomic_path(folder) as beside:
        classes = write_dataset(beside, whole())
        if not classes:
            raise DataError(
                f"no photo is left: all {len(refused)} are refused, the first ({refused[0]['key']}) as {refused[0]['reason']}"
            )
    return {
        "photos": len(kept),
        "bytes": bytes_kept,
        "classes": len(classes),
        "parts": dict(sorted(Counter(part or "none" for _, part in kept).items())),
        "photos_per_class": dict(sorted(Counter(label for label, _ in kept).items())),
        "refused": refused,
    }


def _checked(photos: Iterable[Photo]) -> Iterator[tuple[Photo, str]]:
    """Each photo with the reason to refuse it, or ''. Decoded by threads, in order, a few at a time."""
    ahead: deque[tuple[Photo, Future[str]]] = deque()
    with ThreadPoolExecutor(cores()) as pool:
        for photo in photos:
            ahead.append((photo, pool.submit(_fault, photo)))
            if len(ahead) > PHOTOS_AHEAD:
                first, fault = ahead.popleft()
                yield first, fault.result()
        for first, fault in ahead:
            yield first, fault.result()


def _fault(photo: Photo) -> str:
    try:
        decode(photo.data)
    except PhotoError as error:
        return str(error)
    return ""
