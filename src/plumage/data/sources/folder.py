"""`data.source: folder`: a folder of class folders, or of splits with class folders."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from plumage.common.files import read_start
from plumage.common.text import escaped
from plumage.config import MAX_BYTES, Data
from plumage.data.sources.layout import EXPECTED, Found, in_chunks, recognise, too_large
from plumage.data.sources.listing import Listing
from plumage.data.sources.photo import HEAD_BYTES, Chunk, Photo, SourcePaths
from plumage.errors import DataError


def from_params(data: Data, paths: SourcePaths) -> "FolderSource":
    """Open the folder at `data.path`."""
    return FolderSource(paths.photos, max_bytes=data.max_bytes)


class FolderSource:
    """The photos below `root`, sorted by key. DataError when it isn't a folder or holds no photos.

    A photo that can't be read, or has more than `max_bytes`, is refused, with the reason.
    """

    def __init__(self, root: Path, where: str = "data.path", max_bytes: int = MAX_BYTES) -> None:
        if not root.is_dir():
            hint = "; for an archive set data.source: archive" if root.is_file() else ""
            raise DataError(f"{where}: {root} is not a folder; {EXPECTED}{hint}")
        self.root = root
        self._max_bytes = max_bytes
        listing = Listing(root)
        self._problems = {name: _unreadable(why) for name, why in listing.unreadable.items()}
        self.found, self.about = recognise(
            listing.files, f"{where}: {root}", listing.folders, self._head, self._problems, max_bytes
        )

    def __len__(self) -> int:
        return len(self.found)

    def chunks(self) -> Iterator[Chunk]:
        """Chunks that read the photos' bytes from the folder."""
        for found in in_chunks(self.found):
            yield partial(_read_photos, str(self.root), found, self._max_bytes)

    def _head(self, name: str) -> bytes:
        """The first bytes of a file, none if it can't be read."""
        if name in self._problems:
            return b""
        try:
            return read_start(f"{self.root}/{name}", HEAD_BYTES, HEAD_BYTES)
        except OSError:
            return b""


def _read_photos(root: str, found: list[Found], max_bytes: int) -> list[Photo]:
    return [_read_photo(root, photo, max_bytes) for photo in found]


def _read_photo(root: str, photo: Found, max_bytes: int) -> Photo:
    if photo.problem:
        return photo.photo()
    try:
        data = read_start(f"{root}/{photo.name}", max_bytes + 1, photo.size)
    except FileNotFoundError as error:
        where = escaped(f"{root}/{photo.name}")
        raise DataError(
            f"{where}: can't be read ({error.strerror}); don't change the folder while the stage runs"
        ) from None
    except OSError as error:
        return photo.photo(problem=_unreadable(str(error.strerror)))
    grown = too_large(len(data), max_bytes)
    return photo.photo(problem=grown) if grown else photo.photo(data)


def _unreadable(why: str) -> str:
    return f"unreadable ({why})"
