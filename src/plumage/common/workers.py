"""Work for all cores: a function over many items in processes, its results in order, few of them in memory."""

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
FEW = 4


def map_in_processes(function: Callable[[T], R], items: Iterable[T], processes: int | None = None) -> Iterator[R]:
    """`function` of each item, in order, by `processes` (default: one a core); a few items are done right here.

    At most two results a process wait, so memory stays flat however slowly they are taken. DataError when a process is
    killed, as it is when memory runs out.
    """
    items = iter(items)
    first = list(islice(items, FEW))
    processes = cores() if processes is None else processes
    if processes == 1 or len(first) < FEW:
        yield from map(function, chain(first, items))
        return
    # "spawn": the caller may hold threads (torch, Arrow), which a forked child cannot use safely.
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
        raise DataError("a worker process was killed; is there memory enough for the photos?") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which ends the pool, and don't outlive a parent that was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
