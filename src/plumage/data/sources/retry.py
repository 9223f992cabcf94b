"""Fetch a file: retry while it makes progress, and let one process at a time fetch it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import thread
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout

from plumage.common.pace import BYTES_PER_SECOND, TooSlowError, bytes_below, finished_in_time
from plumage.common.progress import console
from plumage.common.text import shown
from plumage.errors import DataError

T = TypeVar("T")
RETRIES = 5  # retries in a row without progress before the download is given up
BACKOFF_SECONDS = 1.0  # the first pause; each further one is twice as long
STALL_SECONDS = 600.0
"""The libraries write up to 10 MB at once: a sender of 17 kB a second still counts."""
RETRY_STATUSES = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
"""HTTP statuses below 500 that are worth a retry, as all from 500 on are."""


class TransientError(Exception):
    """A failure that may pass: a dropped connection, a busy server. Its text describes what happened."""


def is_transient(status: int) -> bool:
    """Whether an HTTP status may pass, so that a retry makes sense."""
    return status in RETRY_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def retry(attempt: Callable[[], T], bytes_fetched: Callable[[], int], what: str) -> T:
    """Return the result of `attempt`, calling it again after a `TransientError`.

    Progress, which `bytes_fetched` measures, resets the count of retries; a few bytes in a long time are none.

    Raises:
        DataError: RETRIES retries in a row made no progress; the message begins with `what`.
    """
    furthest, since, retries = bytes_fetched(), time.monotonic(), 0
    while True:
        try:
            return attempt()
        except TransientError as error:
            fetched, now = bytes_fetched(), time.monotonic()
            retries = 1 if fetched - furthest > BYTES_PER_SECOND * (now - since) else retries + 1
            furthest, since = max(furthest, fetched), now
            if retries > RETRIES:
                raise DataError(f"{what}: {error}; run it again later, what was fetched is kept") from None
            pause = BACKOFF_SECONDS * 2 ** (retries - 1)
            console.print(shown(f"{what}: {error}; retrying in {pause:g} s"), soft_wrap=True)
            time.sleep(pause)


def in_time(fetch: Callable[[], T], folder: Path, what: str) -> T:
    """Return the result of `fetch`, a library's download into `folder`, as long as that grows.

    Raises:
        DataError: the sender is too slow; the message begins with `what`. Whatever `fetch` raises.
    """
    try:
        return finished_in_time(fetch, lambda: bytes_below(folder), STALL_SECONDS)
    except TooSlowError as error:
        thread._threads_queues.clear()  # type: ignore[attr-defined]  # or the process waits for a stuck thread pool as it ends
        raise DataError(f"{what}: {error}; run it again later, what was fetched is kept") from None


def no_connection(error: requests.RequestException, host: str) -> str:
    """Name the host that could not be reached: the one that redirects led to, else `host`."""
    reached = urlsplit(str(error.request.url)).hostname if error.request is not None else None
    return f"no connection to {reached or host}"


def one_line(error: BaseException) -> str:
    """An error's text, which may have several lines, as one line without secrets."""
    return shown(" ".join(str(error).split())) or type(error).__name__


@contextmanager
def exclusive(lock: Path, what: str) -> Iterator[None]:
    """Hold the lock file `lock`. When another process holds it, print that `what` is being fetched, and wait."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = FileLock(lock)
    try:
        holder.acquire(blocking=False)
    except Timeout:
        console.print(shown(f"{what} is being fetched by another process; waiting for it"), soft_wrap=True)
        holder.acquire()
    try:
        yield
    finally:
        holder.release()
