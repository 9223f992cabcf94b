"""Fingerprints of files, taken when a stage starts, to tell at its end which have changed."""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

CONTENT_BYTES = 64 * 2**20
"""Up to this size in all, the files of a path are compared by content, so that a touched file counts as unchanged."""


class Fingerprints:
    """The files at or below `paths`, by the names of these, as they are now.

    If the files of a path have more than CONTENT_BYTES, their size, time and inode are compared, as DVC does. Hidden files
    don't count, nor do files without one of `suffixes`, if these are given.
    """

    def __init__(self, paths: Mapping[str, Path], suffixes: Collection[str] = ()) -> None:
        self._paths, self._suffixes = paths, suffixes
        sizes = {name: sum(file.stat().st_size for file in self._files(path)) for name, path in paths.items()}
        self._large = {name for name, size in sizes.items() if size > CONTENT_BYTES}
        self._before = self._now()

    def changed(self) -> list[str]:
        """The files that were changed, added or removed since, sorted."""
        now = self._now()
        return sorted(name for name in self._before.keys() | now.keys() if self._before.get(name) != now.get(name))

    def _now(self) -> dict[str, str]:
        return {
            os.path.normpath(f"{name}/{file.relative_to(path)}"): _fingerprint(file, by_content=name not in self._large)
            for name, path in self._paths.items()
            for file in self._files(path)
        }

    def _files(self, path: Path) -> Iterator[Path]:
        """`path`, if it is a file, or the files below it."""
        for file in [path, *_below(path)]:
            if file.is_file() and (not self._suffixes or file.suffix in self._suffixes):
                yield file


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _fingerprint(file: Path, by_content: bool) -> str:
    try:
        if by_content:
            return hashlib.sha256(file.read_bytes()).hexdigest()
        stat = file.stat()
    except OSError:
        return "unreadable"
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
