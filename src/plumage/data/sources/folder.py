"""Photos in a folder: class folders, or parts over class folders."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from plumage.data.sources.layout import EXPECTED, Found, in_loads, recognise
from plumage.data.sources.photo import Load, Photo
from plumage.errors import DataError


class FolderSource:
    """The photos below `root`, sorted by key. DataError when it is no folder or holds no photos."""

    def __init__(self, root: Path, where: str = "data.path") -> None:
        if not root.is_dir():
            raise DataError(f"{where}: {root} is no folder; takes a folder with photos ({EXPECTED})")
        self.root = root
        self._found, self.about = recognise(dict(_files(str(root), "")), f"{where}: {root}")

    def __len__(self) -> int:
        return len(self._found)

    def chunks(self) -> Iterator[Load]:
        """Photos with their bytes as they lie there."""
        return (partial(_read, str(self.root), found) for found in in_loads(self._found))


def _files(root: str, below: str) -> Iterator[tuple[str, int]]:
    """Every file under `root`, links followed: its name from there, with forward slashes, and its size."""
    try:
        with os.scandir(f"{root}/{below}") as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.is_dir():
                    yield from _files(root, name)
                elif entry.is_file():
                    yield name, entry.stat().st_size
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: can't be read ({error.strerror}); takes a readable folder"
        ) from None


def _read(root: str, found: list[Found]) -> list[Photo]:
    photos = []
    for name, key, label, part, size in found:
        try:
            # A file object, let alone a Path, costs more than reading a small photo.
            file = os.open(f"{root}/{name}", os.O_RDONLY)
            try:
                data = b"".join(iter(lambda: os.read(file, size + 1), b""))  # noqa: B023  # called at once
            finally:
                os.close(file)
        except OSError as error:
            raise DataError(f"{root}/{name}: can't be read ({error.strerror}); takes a readable photo") from None
        photos.append(Photo(key, label, part, data))
    return photos
