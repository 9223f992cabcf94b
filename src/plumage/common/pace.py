"""Give up on a sender that is too slow. A socket's own timeout does not: each byte starts it again."""

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
BYTES_PER_SECOND = 1000
POLL_SECONDS = 1.0


class TooSlowError(Exception):
    """The sender is too slow. The text says how much came in how long."""


class Pace:
    """The average rate over windows of `seconds`, of which only the time spent waiting counts."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waited, self._received = 0.0, 0

    def note(self, waited: float, received: int) -> None:
        """Count bytes and the seconds waited for them. TooSlowError if a window ends with under BYTES_PER_SECOND."""
        self._waited += waited
        self._received += received
        if self._waited < self._seconds:
            return
        if self._received < BYTES_PER_SECOND * self._seconds:
            came = f"only {self._received:,} bytes" if self._received else "no data"
            raise TooSlowError(f"{came} for {self._seconds:g} s")
        self._waited, self._received = 0.0, 0


def blocks_in_time(blocks: Iterator[bytes], seconds: float) -> Generator[bytes]:
    """Yield `blocks` as they come, and an empty one while none comes. A thread waits for them, however they are stuck.

    Raises:
        TooSlowError: too little comes within `seconds`. Whatever `blocks` raises.
    """
    pace = Pace(seconds)
    came: queue.Queue[bytes | BaseException | None] = queue.Queue(16)
    given_up = threading.Event()

    def read() -> None:
        try:
            for block in blocks:
                came.put(block)
                if given_up.is_set():
                    return
            came.put(None)
        except BaseException as error:
            came.put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        while True:
            started = time.monotonic()
            try:
                block = came.get(timeout=min(POLL_SECONDS, seconds))
            except queue.Empty:
                block = b""
            if block is None:
                return
            if isinstance(block, BaseException):
                raise block
            pace.note(time.monotonic() - started, len(block))
            yield block
    finally:
        given_up.set()
        while not came.empty():  # or the thread waits for a place in the queue for ever
            came.get_nowait()


def finished_in_time(work: Callable[[], T], received: Callable[[], int], seconds: float) -> T:
    """Call `work` in a thread, and return its result; wait as long as `received` grows, which says how many bytes have come.

    Raises:
        TooSlowError: too little comes within `seconds`; the thread is left to itself. Whatever `work` raises.
    """
    pace, last = Pace(seconds), received()
    results, errors = list[T](), list[BaseException]()

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    while thread.is_alive():
        started = time.monotonic()
        thread.join(min(POLL_SECONDS, seconds))
        if thread.is_alive():
            now = received()
            pace.note(time.monotonic() - started, max(0, now - last))
            last = now
    if errors:
        raise errors[0]
    return results[0]


def bytes_below(folder: Path) -> int:
    """The size of all files below `folder`; those that vanish meanwhile don't count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118  # many files, every second
    return total
