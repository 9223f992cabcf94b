"""Training beside other processes on the same cores."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import torch

INTERVAL = 0.2
"""Seconds from one look at the machine's load to the next."""
BUSY = 0.15
"""A machine is busy if this thread waits for a core for more than this share of the time."""


class ShortSpins:
    """While the machine is busy, OpenMP's threads spin for a shorter time before they sleep. Results don't change.

    A thread that spins while it waits for another uses up its share of a core. GNU's OpenMP spins 1,000 rounds, not GOMP_SPINCOUNT,
    while it has more threads than cores (GCC, libgomp/config/linux/wait.h, with the OMP_WAIT_POLICY that plumage/__init__.py
    sets). So, while the machine is busy, a second team of threads is kept, which sleeps. Off Linux nothing happens.
    """

    def __init__(self) -> None:
        self._since, self._delayed = time.perf_counter(), _seconds_delayed()
        self._team_ends: threading.Event | None = None

    def __enter__(self) -> "ShortSpins":
        return self

    @property
    def are_on(self) -> bool:
        return self._team_ends is not None

    def adjust(self) -> None:
        """Look at the load, if INTERVAL has passed. To be called once per step, by the thread that computes."""
        now = time.perf_counter()
        if now - self._since < INTERVAL:
            return
        delayed = _seconds_delayed()
        busy = delayed - self._delayed > BUSY * (now - self._since)
        self._since, self._delayed = now, delayed
        if busy and not self.are_on:
            self._team_ends = threading.Event()
            threading.Thread(target=_keep_a_team_until, args=(self._team_ends,), daemon=True).start()
        elif not busy:
            self._let_team_end()

    def __exit__(self, *_: object) -> None:
        self._let_team_end()

    def _let_team_end(self) -> None:
        if self._team_ends is not None:
            self._team_ends.set()
            self._team_ends = None


def _seconds_delayed() -> float:
    """How long this thread has waited for a core, in all; 0 where the system doesn't say (proc(5), schedstat)."""
    with suppress(OSError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _keep_a_team_until(end: threading.Event) -> None:
    """OpenMP has a team for each thread that computes, started by the first work for more than one thread."""
    torch.ones(2**18).mul_(2)
    end.wait()
