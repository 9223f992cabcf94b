"""Let one process at a time fetch a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from plumage.common.progress import console


@contextmanager
def exclusive(lock: Path, what: str) -> Iterator[None]:
    """Hold the lock file `lock`. When another process holds it, print that `what` is being fetched, and wait."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = FileLock(lock)
    try:
        holder.acquire(blocking=False)
    except Timeout:
        console.print(f"{what} is being fetched by another process; waiting for it", soft_wrap=True, markup=False)
        holder.acquire()
    try:
        yield
    finally:
        holder.release()
