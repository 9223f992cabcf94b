"""Atomic writes: a file or folder is written under a temporary name and renamed into place, so it is complete or absent."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plumage.errors import PipelineError

MAX_JSON_BYTES = 64 * 1024**2
"""More than a million class names take."""
BLOCK_BYTES = 64 * 1024
FULL = "the disk is full; make room, then run the same command again"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder; rename it to `path` on success, remove it on failure.

    The temporary name is fixed, so the next writer removes what a killed one left. Only one process writes at a time
    (plumage.lock).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, old = _temporary(path)
    remove_temporary(path)
    try:
        with naming(path):
            yield beside
            if path.is_dir():  # a folder can't be replaced
                path.rename(old)
            try:
                beside.replace(path)
            except OSError:
                if old.is_dir():
                    old.rename(path)
                raise
    finally:
        remove_temporary(path)


def remove_temporary(path: Path) -> None:
    """Remove what a killed writer of `path` left beside it."""
    for left in _temporary(path):
        remove(left)


def _temporary(path: Path) -> tuple[Path, Path]:
    """Where a new file or folder is made, and where the one before it waits."""
    return path.with_name(f".{path.name}.tmp"), path.with_name(f".{path.name}.old.tmp")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name `path` to OSErrors without a file name, such as that of a failed write."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise


def is_full(error: BaseException) -> bool:
    """Whether the error says that the disk, or this user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def what_failed(error: OSError) -> str:
    """What the system could not do, and with which file: `reports/data.json: Input/output error`."""
    reason = error.strerror or (str(error).strip() or type(error).__name__).splitlines()[0]
    if is_full(error):
        reason = FULL
    if reason.startswith("No usable temporary directory"):  # Python tried to write into each
        reason += "; make room, or set TMPDIR to a folder with room"
    name = error.filename2 or error.filename  # of a copy, its target
    return f"{os.fsdecode(name)}: {reason}" if name else reason


def remove(path: Path) -> None:
    """Remove a file, link or folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. ValueError for NaN and infinity, which JSON doesn't have."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        OSError: it can't be read.
        ValueError: it is not a regular file, is larger than MAX_JSON_BYTES, or `parse_json` refuses its text.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise ValueError("is not a file")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"has more than {MAX_JSON_BYTES:,} bytes")
    return parse_json(path.read_text(encoding="utf-8"))


def read_output(path: Path) -> Any:
    """Return the content of a JSON file that a stage wrote.

    Raises:
        OSError: it can't be read.
        PipelineError: it does not exist, or is damaged.
    """
    try:
        return read_json(path)
    except FileNotFoundError:
        raise PipelineError(f"{path} doesn't exist; run `dvc repro`") from None
    except ValueError as error:
        raise PipelineError(f"{path} is damaged ({error}); run `dvc repro`") from None


def parse_json(text: str) -> Any:
    """Return the content of JSON as `write_json` writes it.

    Raises:
        ValueError: it is not JSON, repeats a key, is nested too deeply, or has a number that is not finite.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"has {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"has the number {text}, which is not finite")
    return number


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_start(path: str, most: int, expected: int = 0) -> bytes:
    """Read at most the first `most` bytes of a file; faster if its size is `expected`."""
    # Opening a file object or a Path costs more than reading a small photo. Without O_NONBLOCK, a pipe that took its
    # place since it was listed would block for ever.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        blocks, left = [], most
        while left and (block := os.read(file, min(left, max(expected + 1, BLOCK_BYTES)))):
            blocks.append(block)
            left -= len(block)
        return b"".join(blocks)
    finally:
        os.close(file)
