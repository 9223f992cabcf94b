"""`data.source: folder`: a folder of class folders, or of splits with class folders."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from plumage.config import Data
from plumage.data.sources.layout import EXPECTED, Found, in_chunks, recognise
from plumage.data.sources.photo import Chunk, Photo, SourcePaths
from plumage.errors import DataError


def from_params(data: Data, paths: SourcePaths) -> "FolderSource":
    """Open the folder at `data.path`."""
    return FolderSource(paths.photos)


class FolderSource:
    """The photos below `root`, sorted by key. DataError when it isn't a folder or holds no photos."""

    def __init__(self, root: Path, where: str = "data.path") -> None:
        if not root.is_dir():
            raise DataError(f"{where}: {root} is not a folder; takes a folder with photos ({EXPECTED})")
        self.root = root
        self._found, self.about = recognise(dict(_files(str(root), "")), f"{where}: {root}")

    def __len__(self) -> int:
        return len(self._found)

    def chunks(self) -> Iterator[Chunk]:
        """Chunks that read the photos' bytes from the folder."""
        return (partial(_read, str(self.root), found) for found in in_chunks(self._found))


def _files(root: str, below: str) -> Iterator[tuple[str, int]]:
    """Name (relative to `root`, with forward slashes) and size of every file under `root`; links are followed."""
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
    for name, key, label, split, size in found:
        try:
            # Opening a file object or a Path costs more than reading a small photo.
            file = os.open(f"{root}/{name}", os.O_RDONLY)
            try:
                data = b"".join(iter(lambda: os.read(file, size + 1), b""))  # noqa: B023  # called immediately
            finally:
                os.close(file)
        except OSError as error:
            raise DataError(f"{root}/{name}: can't be read ({error.strerror}); takes a readable photo") from None
        photos.append(Photo(key, label, split, data))
    return photos
