"""Training beside other processes on the same cores."""

import ctypes
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

INTERVAL = 0.2
"""Seconds from one look at the machine's load to the next."""
BUSY = 0.15
"""The machine is busy if a thread that computes waits for a core for more than this share of the time."""
IDLE = 0.15
"""Cores are idle if they have nothing to run for more than this share of their time."""
PAUSE = 2.0
"""Seconds in which this process keeps using all cores after it found idle ones."""


class SharedCores:
    """Beside busy processes, threads that wait for each other sleep at once, and keep to half as many cores. Results don't change.

    A thread that spins while it waits for another uses up its share of a core. GNU's OpenMP spins 100 rounds, not GOMP_SPINCOUNT,
    while it has more threads than cores (GCC, libgomp/config/linux/wait.h). So, while the machine is busy, a second team of
    threads is kept, which sleeps.

    If, besides, no core is idle, this process keeps to one core for two of its threads. That is its share beside an equal load, and
    a thread that waits leaves its core to the one that it waits for, not to another process. Off Linux nothing happens.
    """

    def __init__(self) -> None:
        self.is_busy = False
        self.kept = frozenset[int]()
        """The numbers of the cores that this process keeps to; empty while it uses all."""
        self._load, self._all, self._pause_ends = _Load.now(), frozenset[int](), 0.0
        self._team_ends: threading.Event | None = None

    def __enter__(self) -> "SharedCores":
        """Go on as at the last exit."""
        self._load = _Load.now()
        self._share()
        return self

    def __exit__(self, *_: object) -> None:
        self._use_all()

    def adjust(self) -> None:
        """Look at the load, if INTERVAL has passed. To be called once per step, by the thread that computes."""
        if time.perf_counter() - self._load.time < INTERVAL:
            return
        before, self._load = self._load, _Load.now()
        waits = self._load.shows_waiting(before)
        kept = self._cores_to_keep(waits, before)
        is_busy = waits or bool(kept)
        if (is_busy, kept) != (self.is_busy, self.kept):
            self._use_all()
            self.is_busy, self.kept = is_busy, kept
            self._share()

    def _cores_to_keep(self, waits: bool, before: "_Load") -> frozenset[int]:
        if self.kept:
            if not self._load.shows_idle(self._all - self.kept, before):
                return self.kept
            self._pause_ends = self._load.time + PAUSE
        elif waits and self._load.time >= self._pause_ends:
            self._all = frozenset(os.sched_getaffinity(0))
            if not self._load.shows_idle(self._all, before):
                return _one_core_for_two_threads(self._all)
        return frozenset()

    def _share(self) -> None:
        if self.kept:
            _move_threads(self._all, self.kept)
        if self.is_busy:
            self._team_ends = threading.Event()
            threading.Thread(target=_keep_a_team_until, args=(self._team_ends,), daemon=True).start()

    def _use_all(self) -> None:
        if self._team_ends is not None:
            self._team_ends.set()
            self._team_ends = None
        if self.kept:
            _move_threads(self.kept, self._all)


@dataclass(frozen=True)
class _Load:
    """What the system has counted until now, in seconds."""

    time: float
    delayed: dict[int, float]
    """How long each thread that computes has waited for a core."""
    idle: dict[int, float]
    """How long each core has had nothing to run."""

    @classmethod
    def now(cls) -> "_Load":
        return cls(time.perf_counter(), _seconds_delayed(), _seconds_idle())

    def shows_waiting(self, before: "_Load") -> bool:
        """Whether one of the threads waited much of the time since then."""
        limit = BUSY * (self.time - before.time)
        return any(seconds - before.delayed.get(thread, seconds) > limit for thread, seconds in self.delayed.items())

    def shows_idle(self, cores: frozenset[int], before: "_Load") -> bool:
        """Whether these cores were idle since then; also if the system doesn't say."""
        if not cores <= self.idle.keys() & before.idle.keys():
            return True
        idle = sum(self.idle[core] - before.idle[core] for core in cores)
        return idle > IDLE * len(cores) * (self.time - before.time)


def _seconds_delayed() -> dict[int, float]:
    """Of this thread and all that Python didn't start; empty where the system doesn't say (proc(5), schedstat)."""
    pythons = {thread.native_id for thread in threading.enumerate()} - {threading.get_native_id()}
    delayed = {}
    for thread in _threads() - pythons:
        with suppress(OSError):  # it has ended
            delayed[thread] = int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[1]) / 1e9
    return delayed


def _seconds_idle() -> dict[int, float]:
    """Empty where the system doesn't say (proc(5), /proc/stat: idle and iowait)."""
    with suppress(OSError):
        lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
        counts = {int(name[3:]): fields for name, *fields in lines if name[:3] == "cpu" and name != "cpu"}
        return {core: (int(fields[3]) + int(fields[4])) / os.sysconf("SC_CLK_TCK") for core, fields in counts.items()}
    return {}


def _one_core_for_two_threads(cores: frozenset[int]) -> frozenset[int]:
    """Half as many of these cores as there are threads, from this thread's own on. Empty for one thread, or if no core is left over."""
    threads, here = torch.get_num_threads(), ctypes.CDLL(None).sched_getcpu()
    count = -(-threads // 2)
    if threads == 1 or count >= len(cores):
        return frozenset()
    return frozenset(sorted(cores, key=lambda core: (core < here, core))[:count])


def _threads() -> set[int]:
    """This process's threads, by the system's numbers; none off Linux."""
    tasks = Path("/proc/self/task")
    return {int(path.name) for path in tasks.iterdir()} if tasks.is_dir() else set()


def _move_threads(from_cores: frozenset[int], to_cores: frozenset[int]) -> None:
    """Let those of this process's threads that may run on the first cores run on the second."""
    for thread in _threads():
        with suppress(OSError):  # it has ended
            if os.sched_getaffinity(thread) == from_cores:
                os.sched_setaffinity(thread, to_cores)


def _keep_a_team_until(end: threading.Event) -> None:
    """OpenMP has a team for each thread that computes, started by the first work for more than one thread."""
    torch.ones(2**18).mul_(2)
    end.wait()
