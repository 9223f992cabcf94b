"""Compiled libraries in the user's cache, which are loaded only as this user compiled them.

A library ends with the SHA-256 of its key and its bytes. If it was truncated, damaged or renamed, it is
compiled again. A folder that other users can write to is not used.
"""

import ctypes
import errno
import hashlib
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from plumage.common.files import is_full

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def load_library(key: bytes, compile_to: Callable[[Path], object]) -> ctypes.CDLL | None:
    """Load the library of this `key`, which `compile_to` writes to the path that it gets if there is none yet.

    None if it can't be compiled or kept anywhere. OSError if the disk is full: once there is room, compiled code would compute
    other bytes.
    """
    name, full = f"kernels-{hashlib.sha256(key).hexdigest()[:16]}.so", None
    with suppress(FileNotFoundError):  # no folder for temporary files
        for folder in _folders():
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _check_private(folder)
                if not _is_whole(folder / name, key):
                    _add(folder / name, key, compile_to)
                return ctypes.CDLL(str(folder / name))
            except (OSError, subprocess.CalledProcessError) as error:
                full = full or _full_disk(error)
    if full:
        raise full
    return None


def _full_disk(error: OSError | subprocess.CalledProcessError) -> OSError | None:
    """An error that calls the disk full, if that is what stopped the compiler or the copy."""
    if isinstance(error, OSError):
        return error if is_full(error) else None
    text = os.strerror(errno.ENOSPC)
    found = text.encode() in error.stderr
    return OSError(errno.ENOSPC, text, f"{error.cmd[0]} in {tempfile.gettempdir()}") if found else None


def _folders() -> Iterator[Path]:
    """The user's cache, else this user's folder of temporary files."""
    with suppress(RuntimeError):  # no home folder
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "plumage"
    yield Path(tempfile.gettempdir()) / f"plumage-{os.getuid()}"


def _check_private(folder: Path) -> None:
    """Raise PermissionError if other users can write to `folder` or put another in its place."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or not _is_own(found):
        raise PermissionError(f"{folder} is not this user's alone")
    for parent in folder.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise PermissionError(f"everyone can write to {parent}")


def _is_own(found: os.stat_result) -> bool:
    return found.st_uid in (0, os.getuid()) and not found.st_mode & OTHERS_WRITE


def _is_whole(library: Path, key: bytes) -> bool:
    """Whether this is a file, no link, that only this user can write to, as `_add` wrote it."""
    try:
        with os.fdopen(os.open(library, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or not _is_own(found):
                return False
            content = file.read()
    except OSError:
        return False
    length = len(content) - hashlib.sha256().digest_size
    return length > 0 and content[length:] == _digest(key, content[:length])


def _add(library: Path, key: bytes, compile_to: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as beside:  # other processes may compile it, too
        made = Path(beside) / library.name
        compile_to(made)
        content = made.read_bytes()
        made.write_bytes(content + _digest(key, content))
        made.chmod(0o700)
        made.replace(library)


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.sha256(key + content).digest()
