"""A labelled photo, the image formats that are read, and the interface of every source of photos."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "MPO": (".jpg", ".jpeg", ".mpo"), "PNG": (".png", ".apng"),
    "WEBP": (".webp",), "AVIF": (".avif",), "BMP": (".bmp",), "GIF": (".gif",), "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm"), "HEIF": (".heic", ".heif", ".hif"),
}  # fmt: skip
"""The suffixes of each format's files, the usual one first."""
RAW_SUFFIXES = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".orf", ".pef", ".raf",
    ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip
"""Suffixes of camera raw files. Many start like a TIFF, whose only picture is a tiny preview."""
SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff", "PNG": rb"\x89PNG\r\n\x1a\n", "WEBP": rb"RIFF....WEBP", "GIF": rb"GIF8[79]a",
    "TIFF": rb"II[*+]\0|MM\0[*+]|II\0[*]|MM[*]\0", "PPM": rb"P[1-6f]\s+[\d#]",
    "BMP": rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0",  # followed by the size of a known header
    "AVIF": rb"....ftyp(avi[fs]|m[is]f1.{0,40}avi[fs])",
    "HEIF": rb"....ftyp(he[iv][cxms]|m[is]f1)",  # mif1 and msf1 are AVIF if they list it among the compatible brands
}  # fmt: skip
"""How a file of each format starts, as regular expressions of bytes."""
HEAD_BYTES = 64


def format_of(data: bytes | memoryview) -> str | None:
    """The format, a key of SUFFIXES, that the first HEAD_BYTES of a file show; None: it isn't a photo. MPO shows as JPEG."""
    head = bytes(data[:HEAD_BYTES])
    return next((format for format, start in SIGNATURES.items() if re.match(start, head, re.DOTALL)), None)


def suffix_by_content(data: bytes | memoryview) -> str:
    """The usual suffix of the photo format that the first HEAD_BYTES of a file show; "" if it isn't a photo."""
    format = format_of(data)
    return SUFFIXES[format][0] if format else ""


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled photo, as found. `key` is unique in its source: the path inside it, with forward slashes."""

    key: str
    label: str
    split: str | None  # the split that the source assigns: train, val, test, or None
    data: bytes
    problem: str = ""  # why it is refused without `data`, such as a link that leads nowhere


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
