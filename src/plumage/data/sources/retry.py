"""Fetching that doesn't give up at the first drop: tries with pauses in between, one process at a time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout

from plumage.common.progress import console
from plumage.errors import DataError

T = TypeVar("T")
RETRIES = 5
"""So many tries in a row may bring nothing more before fetching ends."""
BACKOFF_SECONDS = 1.0
"""The first pause; each further one is twice as long."""


BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
"""What a server answers that may do better later, as all from 500 on."""


class TransientError(Exception):
    """What may pass: a dropped connection, a server too busy. Its text says what happened."""


def retry(attempt: Callable[[], T], fetched: Callable[[], int], what: str) -> T:
    """The result of `attempt`, which is called again after `TransientError`.

    `fetched` tells how many bytes are there: while they grow, the count of tries starts again. DataError, which begins
    with `what`, after RETRIES further tries that brought nothing more.
    """
    furthest, tries = fetched(), 0
    while True:
        try:
            return attempt()
        except TransientError as error:
            there = fetched()
            tries = 1 if there > furthest else tries + 1
            furthest = max(furthest, there)
            if tries > RETRIES:
                raise DataError(f"{what}: {error}; run it again later, what has been fetched is kept") from None
            pause = BACKOFF_SECONDS * 2 ** (tries - 1)
            console.print(f"{what}: {error}; the next try is in {pause:g} s", soft_wrap=True, markup=False)
            time.sleep(pause)


@contextmanager
def exclusive(lock: Path, what: str) -> Iterator[None]:
    """Hold the file `lock`, which one process at a time can; the others wait, and say so."""
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


def no_connection(error: requests.RequestException, host: str) -> str:
    """Which host could not be reached: where the redirects led, else `host`."""
    reached = urlsplit(str(error.request.url)).hostname if error.request is not None else None
    return f"there is no connection to {reached or host}"


def one_line(error: BaseException) -> str:
    """An error's text, which may have several lines, as one."""
    return " ".join(str(error).split()) or type(error).__name__
