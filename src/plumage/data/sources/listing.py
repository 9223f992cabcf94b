"""Lists a folder of photos: what is in it, and what can't be read and why. Nothing is opened."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from plumage.common.text import escaped
from plumage.data.sources.names import is_system_file
from plumage.errors import DataError

MAX_DEPTH = 100  # folders in each other
MAX_VISITS = 100  # of one folder by links: a few links in each of some folders make billions of paths
SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class Listing:
    """Files and folders below `root` by name: relative to it, with forward slashes. Links are followed, system files left out.

    Raises:
        DataError: a folder can't be read, is too deep, or is reached by too many links.
    """

    def __init__(self, root: Path) -> None:
        self.files: dict[str, int] = {}
        """The size in bytes of every file; 0 for one that is `unreadable`."""
        self.folders: dict[str, str] = {}
        """Why a folder isn't entered; empty if it is. A link that leads nowhere may have been one to a folder."""
        self.unreadable: dict[str, str] = {}
        """Why a file can't be read, if that is known without opening it."""
        self._root = str(root)
        self._visits: Counter[tuple[int, int]] = Counter()
        self._list("", set())

    def _list(self, below: str, above: set[tuple[int, int]]) -> None:
        """List the folder `below`; `above` identifies the folders it is in, by device and inode."""
        path = f"{self._root}/{below}"
        try:
            status = Path(path).stat()
            folder = (status.st_dev, status.st_ino)
            self._visits[folder] += 1
            inside = above | {folder}
            if len(inside) > MAX_DEPTH or self._visits[folder] > MAX_VISITS:
                raise DataError(too_deep(path) if len(inside) > MAX_DEPTH else _too_linked(path))
            for entry in _entries(path):
                name = f"{below}/{entry.name}" if below else entry.name
                if not is_system_file(entry.name):
                    self._list_entry(entry, name, inside)
        except OSError as error:
            what = escaped(str(error.filename or path))
            raise DataError(f"{what}: can't be read ({error.strerror}); takes a readable folder") from None

    def _list_entry(self, entry: os.DirEntry[str], name: str, inside: set[tuple[int, int]]) -> None:
        try:
            status = entry.stat()
        except OSError as error:
            if not entry.is_symlink():
                raise
            self.files[name] = 0
            self.folders[name] = self.unreadable[name] = dead_link(entry.path, error)
            return
        if stat.S_ISDIR(status.st_mode):
            loop = (status.st_dev, status.st_ino) in inside
            self.folders[name] = "a link to a folder that it is in" if loop else ""
            if not loop:
                self._list(name, inside)
        else:
            special = SPECIAL.get(stat.S_IFMT(status.st_mode))
            self.files[name] = 0 if special else status.st_size
            if special:
                self.unreadable[name] = special


def too_deep(path: str) -> str:
    """What is wrong with a folder in more than MAX_DEPTH others."""
    return f"{escaped(path[:80])}...: is over {MAX_DEPTH} folders deep; takes <class>/<photo>"


def _too_linked(path: str) -> str:
    return f"{escaped(path[:80])}: links lead to this folder over {MAX_VISITS} times; takes each folder of photos once"


def _entries(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        yield from entries


def dead_link(path: str, error: OSError) -> str:
    """What the link at `path` is, which can't be followed because of `error`."""
    target = escaped(str(Path(path).readlink()))
    return f"a link to {target}, which doesn't exist" if error.errno == errno.ENOENT else f"a link ({error.strerror})"
