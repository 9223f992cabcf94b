"""Lists a folder of photos: what is in it, and what can't be read and why. Nothing is opened."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from plumage.common.text import escaped
from plumage.data.sources.names import is_system_file
from plumage.errors import DataError

MAX_DEPTH = 100  # folders in each other
MAX_VISITS = 100  # of one folder by links: a few links in each of some folders make billions of paths
LINK = "a link"
SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


class Entry(NamedTuple):
    """A file or a folder below a root."""

    name: str  # relative to the root, with forward slashes
    is_folder: bool
    size: int = 0  # of a file, in bytes
    problem: str = ""  # why a file can't be read, or a folder isn't entered, known without opening it
    error: str = ""  # why the folder can't be listed: one line that names it


def walk(root: Path) -> Iterator[Entry]:
    """Yield what is below `root`, folder by folder in the order of names. Links are followed, system files left out.

    A dead link is a file. Only the names of the folders on the way are in memory.
    """
    return _walk(str(root), "", frozenset(), Counter())


class Listing:
    """Files and folders below `root`, by name, as `walk` yields them.

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
        for entry in walk(root):
            if entry.error:
                raise DataError(entry.error)
            if entry.is_folder:
                self.folders[entry.name] = entry.problem
                continue
            self.files[entry.name] = entry.size
            if entry.problem:
                self.unreadable[entry.name] = entry.problem
                if entry.problem.startswith(LINK):
                    self.folders[entry.name] = entry.problem


Identity = tuple[int, int]  # of a folder: device and inode


def _walk(root: str, below: str, above: frozenset[Identity], visits: Counter[Identity]) -> Iterator[Entry]:
    """Walk the folder `below`, which is in the folders `above`."""
    path = f"{root}/{below}" if below else root
    try:
        status = Path(path).stat()
        folder = (status.st_dev, status.st_ino)
        visits[folder] += 1
        inside = above | {folder}
        if len(inside) > MAX_DEPTH or visits[folder] > MAX_VISITS:
            error = too_deep(path) if len(inside) > MAX_DEPTH else _too_linked(path)
            yield Entry(below, True, error=error)
            return
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        yield Entry(below, True, error=_unlistable(path, error))
        return
    for name in names:
        if not is_system_file(name):
            entry = _entry(path, name, f"{below}/{name}" if below else name, inside)
            yield entry
            if entry.is_folder and not entry.problem and not entry.error:
                yield from _walk(root, entry.name, inside, visits)


def _entry(folder: str, name: str, full: str, inside: frozenset[Identity]) -> Entry:
    path = f"{folder}/{name}"
    try:
        status = Path(path).stat()
    except OSError as error:
        if Path(path).is_symlink():
            return Entry(full, False, problem=dead_link(path, error))
        return Entry(full, True, error=_unlistable(path, error))
    if stat.S_ISDIR(status.st_mode):
        loop = (status.st_dev, status.st_ino) in inside
        return Entry(full, True, problem="a link to a folder that it is in" if loop else "")
    special = SPECIAL.get(stat.S_IFMT(status.st_mode), "")
    return Entry(full, False, size=0 if special else status.st_size, problem=special)


def _unlistable(path: str, error: OSError) -> str:
    return f"{escaped(str(error.filename or path))}: can't be read ({error.strerror}); takes a readable folder"


def too_deep(path: str) -> str:
    """What is wrong with a folder in more than MAX_DEPTH others."""
    return f"{escaped(path[:80])}...: is over {MAX_DEPTH} folders deep; takes <class>/<photo>"


def _too_linked(path: str) -> str:
    return f"{escaped(path[:80])}: links lead to this folder over {MAX_VISITS} times; takes each folder of photos once"


def dead_link(path: str, error: OSError) -> str:
    """What the link at `path` is, which can't be followed because of `error`."""
    target = escaped(str(Path(path).readlink()))
    return f"a link to {target}, which doesn't exist" if error.errno == errno.ENOENT else f"a link ({error.strerror})"
