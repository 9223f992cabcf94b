"""The photos that a person names on a command line: files, folders, and paths from another command."""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from plumage.common.files import read_start
from plumage.data.sources.layout import in_words, is_photo
from plumage.data.sources.listing import walk
from plumage.data.sources.photo import HEAD_BYTES, format_of
from plumage.errors import DataError, PhotoError
from plumage.inference.photos import read_file

STDIN = "-"
BLOCK_BYTES = 64 * 1024


class Found(NamedTuple):
    """A photo to predict, by its path as given or as found in a folder."""

    path: str
    problem: str = ""  # why it can't be read, if that is known already
    data: bytes | None = None  # what a pipe held; the content of files is read later


def find_photos(arguments: Iterable[str], stdin: BinaryIO | None = None) -> Iterator[Found]:
    """Yield the photos that `arguments` name, in order, a folder's in the order of names.

    A folder is walked: links are followed, hidden files and those that aren't photos passed over. `-` stands for the paths
    that `stdin` lists, one per line or each ended by a zero byte. What can't be read is yielded with its `problem`.

    Raises:
        DataError: `stdin` is closed or holds a photo.
    """
    for argument in arguments:
        for path in read_paths(stdin) if argument == STDIN else [argument]:
            yield from _at(path)


def count_photos(arguments: Sequence[str]) -> int | None:
    """The number of photos that `arguments` name. None if they are listed on stdin: nothing is read from it."""
    if STDIN in arguments:
        return None
    return sum(sum(1 for _ in _in_folder(path)) if Path(path).is_dir() else 1 for path in arguments)


def read_paths(stdin: BinaryIO | None) -> Iterator[str]:
    """Yield the paths that `stdin` lists, as they come: ended by zero bytes if its first block has one, else by line ends."""
    if stdin is None:
        raise DataError(f"{STDIN}: stdin is closed; takes paths of photos, one per line")
    block = os.read(stdin.fileno(), BLOCK_BYTES)
    if (format := format_of(block)) in ("JPEG", "PNG", "WEBP"):  # no path starts like these
        raise DataError(
            f"{STDIN}: stdin holds a {format}; takes paths of photos, one per line; for one photo, /dev/stdin"
        )
    end = b"\0" if b"\0" in block else b"\n"
    rest = b""
    while block:
        *lines, rest = (rest + block).split(end)
        yield from map(os.fsdecode, filter(None, lines))
        block = os.read(stdin.fileno(), BLOCK_BYTES)
    if rest:
        yield os.fsdecode(rest)


def _at(path: str) -> Iterator[Found]:
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        yield Found(path, getattr(error, "strerror", None) or str(error))
        return
    if stat.S_ISDIR(mode):
        yield from _in_folder(path)
    elif stat.S_ISREG(mode):
        yield Found(path)
    else:  # a pipe such as <(curl ...) belongs to this process
        try:
            yield Found(path, data=read_file(path))
        except PhotoError as error:
            yield Found(path, str(error))


def _in_folder(folder: str) -> Iterator[Found]:
    found, passed_over = False, Counter[str]()
    for entry in walk(Path(folder)):
        path = os.path.join(folder, entry.name) if entry.name else folder  # noqa: PTH118  # a Path would drop the ./
        name = entry.name.rpartition("/")[2]
        if entry.error:
            found = True
            yield Found(path, entry.error)
        elif not entry.is_folder and is_photo(path, name, _head if not entry.problem else _no_head):
            found = True
            yield Found(path, entry.problem)
        elif not entry.is_folder:
            passed_over[Path(name).suffix.lower() or "(no suffix)"] += 1
    if not found:
        others = f" ({in_words(passed_over)})" if passed_over else ""
        yield Found(folder, f"the folder holds no photos{others}")


def _head(path: str) -> bytes:
    """The first bytes of a file, none if it can't be read."""
    try:
        return read_start(path, HEAD_BYTES, HEAD_BYTES)
    except OSError:
        return b""


def _no_head(path: str) -> bytes:
    return b""
