"""Map a function over many items in processes, with results in order and few of them in memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import connection
from typing import TypeVar

from plumage.common.cores import cores
from plumage.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
MIN_ITEMS = 4
"""Fewer items than this are not worth starting processes."""


def map_in_processes(function: Callable[[T], R], items: Iterable[T], processes: int | None = None) -> Iterator[R]:
    """Yield `function` of each item, in order, computed by `processes` (default: one per core).

    Fewer than MIN_ITEMS items are computed in this process. At most two results per process wait, so memory stays flat
    however slowly the caller takes them.

    Raises:
        DataError: a process was killed, as happens when memory runs out.
    """
    items = iter(items)
    first = list(islice(items, MIN_ITEMS))
    processes = cores() if processes is None else processes
    if processes == 1 or len(first) < MIN_ITEMS:
        yield from map(function, chain(first, items))
        return
    # "spawn": forking is unsafe when the caller has threads (torch, Arrow).
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)
    waiting: deque[Future[R]] = deque()
    try:
        for item in chain(first, items):
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise DataError("a worker process was killed; is there enough memory for the photos?") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Ignore Ctrl-C (the parent handles it and ends the pool), and exit when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
