"""Map a function over many items in processes, with results in order and few of them in memory.

One bad item must not end the work: a process that crashes or hangs is replaced, and the step that it was at is left out.
`concurrent.futures` gives up all of its processes when one dies, and never notices one that hangs.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from ctypes import c_long
from functools import partial
from multiprocessing import connection
from multiprocessing.sharedctypes import RawValue
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from plumage.common.cores import cores
from plumage.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
SECONDS_PER_STEP = 300
"""A step that takes longer hangs. It is generous: a loaded machine must not change what is refused."""
NO_STEP = -1
_step: Any = None  # in a worker process: a number that it shares with the parent


def begin(step: int) -> None:
    """Tell the parent process that this step, from 0, of the current item begins: one that may crash or hang."""
    if _step is not None:
        _step.value = step


def map_in_processes(function: Callable[[T], R], items: Iterable[T], processes: int | None = None) -> Iterator[R]:
    """Yield `function` of each item, in order, computed by `processes` (default: one per core; 0: in this process).

    At most two results per process wait, so memory stays flat however slowly the caller takes them. A function that calls
    `begin` is called again if a step kills its process or takes longer than SECONDS_PER_STEP: with `faults={step: reason}`,
    the steps to leave out.

    Raises:
        DataError: a process was killed outside of such a step, as happens when memory runs out.
    """
    processes = cores() if processes is None else processes
    if processes == 0:
        yield from map(function, items)
        return
    pool = _Pool(function)
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(processes) as threads:
        try:
            for item in items:
                waiting.append(threads.submit(pool.compute, item))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            pool.close()


class _Fault(Exception):
    """A worker process died or was killed at `step`."""

    def __init__(self, step: int, reason: str) -> None:
        self.step, self.reason = step, reason


class _Pool:
    """Worker processes, as many as there are threads that call `compute`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def compute(self, item: Any) -> Any:
        """Compute the item, again without a step that ends its process."""
        faults: dict[int, str] = {}
        while True:
            worker = self._take()
            try:
                result = worker.compute(partial(self._function, faults=faults) if faults else self._function, item)
            except _Fault as fault:
                if fault.step == NO_STEP or fault.step in faults:
                    raise DataError(f"a worker process {fault.reason}; is there enough memory?") from None
                faults[fault.step] = fault.reason
            else:
                self._idle.put(worker)
                return result

    def _take(self) -> "_Worker":
        """An idle worker, or a new one."""
        with suppress(Empty):
            return self._idle.get_nowait()
        with self._lock:
            if self._closed:
                raise DataError("the work was ended")
            worker = _Worker()
            self._workers.append(worker)
            return worker

    def close(self) -> None:
        """Kill the processes. Threads that wait for them get an error."""
        with self._lock:
            self._closed = True
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()


class _Worker:
    """A process that computes one item at a time."""

    def __init__(self) -> None:
        # "spawn": forking is unsafe when the caller has threads (torch, Arrow).
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._step = RawValue(c_long, NO_STEP)
        self.process = context.Process(target=_work, args=(theirs, self._step), daemon=True)
        self.process.start()
        theirs.close()

    def compute(self, function: Callable[[Any], Any], item: Any) -> Any:
        """Compute the item. An error of `function` is raised here; _Fault: the process ended, or took too long."""
        try:
            self._connection.send((function, item))
            seconds, step = 0, NO_STEP
            while not self._connection.poll(1):  # counts its own seconds: none pass while this process is suspended
                now = self._step.value
                seconds, step = (seconds + 1, now) if now == step != NO_STEP else (0, now)
                if seconds >= SECONDS_PER_STEP:
                    self.process.kill()
                    raise _Fault(step, f"took over {SECONDS_PER_STEP} seconds")
            result, error = self._connection.recv()
        except (EOFError, OSError):
            self.process.join()
            raise _Fault(self._step.value, f"was killed ({_cause(self.process.exitcode)})") from None
        if error:
            raise error
        return result


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        with suppress(ValueError):
            return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"


def _work(pipe: "connection.Connection[Any, Any]", step: Any) -> None:
    """Compute items until the parent ends. Ctrl-C is for the parent, which ends this process."""
    global _step
    _step = step
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            function, item = pipe.recv()
            result, failure = None, None
            try:
                result = function(item)
            except Exception as error:
                error.add_note("".join(traceback.format_exception(error)))  # it arrives without a traceback
                failure = error
            begin(NO_STEP)
            pipe.send((result, failure))
