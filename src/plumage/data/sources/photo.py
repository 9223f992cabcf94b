"""A labelled photo, the image formats that are read, and the interface of every source of photos."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

# The suffixes of each format's files.
SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"}, "MPO": {".jpg", ".jpeg", ".mpo"}, "PNG": {".png", ".apng"},
    "WEBP": {".webp"}, "AVIF": {".avif"}, "BMP": {".bmp"}, "GIF": {".gif"}, "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm"},
}  # fmt: skip
FORMATS = tuple(format for format in SUFFIXES if format != "MPO")  # Pillow opens MPO as JPEG


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled photo, as found. `key` is unique in its source: the path inside it, with forward slashes."""

    key: str
    label: str
    split: str | None  # the split that the source assigns: train, val, test, or None
    data: bytes
    unreadable: str = ""  # why there is no `data`, such as a link that leads nowhere


Chunk = Callable[[], list[Photo]]  # reads (or draws) a chunk of photos; picklable, so that any process can run it


class Source(Protocol):
    """A source of photos. `about` describes it in the report: JSON, the same for the same photos."""

    about: dict[str, Any]

    def __len__(self) -> int:
        """The number of photos."""

    def chunks(self) -> Iterator[Chunk]:
        """Chunks of a few photos and megabytes that together read all photos, in the order of the data set."""


class SourcePaths(NamedTuple):
    """The paths that a source may use."""

    photos: Path  # `data.path` as seen from the working directory
    downloads: Path  # the folder where downloads are kept
    scratch: Path  # a file to unpack to; it and files whose names start with its name are removed afterwards
