"""`data.source: folder`: a folder of class folders, or of splits with class folders."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from plumage.common.text import escaped
from plumage.config import Data
from plumage.data.sources.layout import EXPECTED, Found, in_chunks, recognise
from plumage.data.sources.listing import Listing
from plumage.data.sources.photo import HEAD_BYTES, Chunk, Photo, SourcePaths
from plumage.errors import DataError


def from_params(data: Data, paths: SourcePaths) -> "FolderSource":
    """Open the folder at `data.path`."""
    return FolderSource(paths.photos)


class FolderSource:
    """The photos below `root`, sorted by key. DataError when it isn't a folder or holds no photos.

    A photo that can't be read is refused, with the reason.
    """

    def __init__(self, root: Path, where: str = "data.path") -> None:
        if not root.is_dir():
            hint = "; for an archive set data.source: archive" if root.is_file() else ""
            raise DataError(f"{where}: {root} is not a folder; {EXPECTED}{hint}")
        self.root = root
        listing = Listing(root)
        self._unreadable = listing.unreadable
        self._found, self.about = recognise(listing.files, f"{where}: {root}", listing.folders, self._head)

    def __len__(self) -> int:
        return len(self._found)

    def chunks(self) -> Iterator[Chunk]:
        """Chunks that read the photos' bytes from the folder."""
        for found in in_chunks(self._found):
            unreadable = {photo.name: self._unreadable[photo.name] for photo in found if photo.name in self._unreadable}
            yield partial(_read_photos, str(self.root), found, unreadable)

    def _head(self, name: str) -> bytes:
        """The first bytes of a file, none if it can't be read."""
        if name in self._unreadable:
            return b""
        try:
            return _read(f"{self.root}/{name}", HEAD_BYTES)
        except OSError:
            return b""


def _read_photos(root: str, found: list[Found], unreadable: dict[str, str]) -> list[Photo]:
    photos = []
    for name, key, label, split, size in found:
        data, problem = b"", unreadable.get(name, "")
        if not problem:
            try:
                data = _read(f"{root}/{name}", None, size)
            except FileNotFoundError as error:
                where = escaped(f"{root}/{name}")
                raise DataError(
                    f"{where}: can't be read ({error.strerror}); leave the folder as it is meanwhile"
                ) from None
            except OSError as error:
                problem = str(error.strerror)
        photos.append(Photo(key, label, split, data, problem))
    return photos


def _read(path: str, most: int | None = None, expected: int = 0) -> bytes:
    """Read a file, at most its first `most` bytes; faster if its size is `expected`."""
    # Opening a file object or a Path costs more than reading a small photo.
    file = os.open(path, os.O_RDONLY)
    try:
        if most is not None:
            return os.read(file, most)
        return b"".join(iter(lambda: os.read(file, expected + 1), b""))
    finally:
        os.close(file)
