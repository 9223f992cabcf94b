"""Beside busy processes threads spin less and keep to fewer cores, alone they don't; what is computed stays the same."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from plumage.accelerate.layers import accelerate
from plumage.models import create_model
from plumage.training import contention
from plumage.training.contention import SharedCores

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how long a thread waits for a core")
NONE = {0: 0.0, 1: 0.0}
"""Neither of two cores is idle."""

BESIDE_BUSY_PROCESSES = """
import os, subprocess, sys, threading, time
import torch
from plumage.training.contention import SharedCores

def affinities():
    return {tuple(sorted(os.sched_getaffinity(int(thread)))) for thread in os.listdir("/proc/self/task")}

mine = tuple(sorted(os.sched_getaffinity(0)))
torch.set_num_threads(len(mine))
threading.Thread(target=threading.Event().wait, daemon=True).start()
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in mine]
try:
    with SharedCores() as cores:
        values, end = torch.ones(2**20), time.monotonic() + 60
        while not (cores.is_busy and (cores.kept or len(mine) == 1)) and time.monotonic() < end:
            values.mul_(1)
            cores.adjust()
        print(cores.is_busy, len(cores.kept) == (len(mine) + 1) // 2 % len(mine), affinities() == {tuple(sorted(cores.kept)) or mine})
    print(affinities() == {mine})
finally:
    for process in busy:
        process.kill()
"""


class Machine:
    """Says what a test wants of the time that passes, and has as many cores as it wants."""

    def __init__(self) -> None:
        self.time = self.delayed = 0.0
        self.idle: dict[int, float] = {}
        self.affinity = frozenset[int]()

    def lets(self, cores: SharedCores, wait: float, idle: dict[int, float], seconds: float = 1.0) -> SharedCores:
        """Some seconds pass, for these shares of which the thread waits and cores are idle."""
        self.time += seconds
        self.delayed += wait * seconds
        self.idle = {core: self.idle.get(core, 0.0) + share * seconds for core, share in idle.items()}
        cores.adjust()
        return cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    machine.idle, machine.affinity = dict(NONE), frozenset(NONE)
    monkeypatch.setattr(time, "perf_counter", lambda: machine.time)
    monkeypatch.setattr(contention, "_seconds_delayed", lambda: {0: machine.delayed, 1: 0.0})
    monkeypatch.setattr(contention, "_seconds_idle", lambda: machine.idle)
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: machine.affinity, raising=False)
    monkeypatch.setattr(
        os, "sched_setaffinity", lambda thread, cores: setattr(machine, "affinity", cores), raising=False
    )
    return machine


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_threads_spin_less_while_this_one_waits_for_a_core_much_of_the_time(machine: Machine) -> None:
    with SharedCores() as cores:
        seen = [machine.lets(cores, wait, idle={0: 0.3, 1: 0.3}).is_busy for wait in (0.1, 0.3, 0.5, 0.01, 0.4)]
        assert seen == [False, True, True, False, True] and not cores.kept


@needs_linux
@pytest.mark.usefixtures("two_threads")
def test_if_no_core_is_idle_besides_two_threads_share_one_until_another_is(machine: Machine) -> None:
    cores = SharedCores()
    assert not machine.lets(cores, wait=0.1, idle=NONE).kept
    (kept,) = machine.lets(cores, wait=0.3, idle=NONE).kept
    assert machine.affinity == {kept}
    other = 1 - kept
    assert machine.lets(cores, wait=0.0, idle={kept: 0.5, other: 0.1}).kept == {kept} and cores.is_busy
    assert not machine.lets(cores, wait=0.0, idle={kept: 0.0, other: 0.2}).kept and not cores.is_busy
    assert machine.affinity == {0, 1}


@needs_linux
@pytest.mark.usefixtures("two_threads")
def test_after_a_core_was_idle_all_are_used_for_a_while(machine: Machine) -> None:
    cores = SharedCores()
    machine.lets(cores, wait=0.3, idle=NONE)
    machine.lets(cores, wait=0.3, idle={0: 0.5, 1: 0.5})
    assert not machine.lets(cores, wait=0.3, idle=NONE, seconds=contention.PAUSE - 0.1).kept and cores.is_busy
    assert machine.lets(cores, wait=0.3, idle=NONE).kept


@needs_linux
@pytest.mark.usefixtures("two_threads")
def test_all_cores_are_used_between_epochs(machine: Machine) -> None:
    with SharedCores() as cores:
        machine.lets(cores, wait=0.3, idle=NONE)
    assert machine.affinity == {0, 1}
    with cores:
        assert machine.affinity == cores.kept != {0, 1}


@needs_linux
@pytest.mark.parametrize(
    ("threads", "available", "count"), [(1, 2, 0), (2, 8, 1), (3, 4, 2), (8, 8, 4), (8, 4, 0), (2, 1, 0)]
)
def test_a_core_is_kept_for_each_two_threads_if_there_are_more(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, threads: int, available: int, count: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    machine.affinity, machine.idle = frozenset(range(available)), {}
    cores, none = SharedCores(), dict.fromkeys(range(available), 0.0)
    machine.lets(cores, wait=0.0, idle=none)
    assert len(machine.lets(cores, wait=0.3, idle=none).kept) == count and cores.is_busy


@pytest.mark.usefixtures("two_threads")
def test_all_cores_are_used_if_the_system_does_not_say_which_are_idle(machine: Machine) -> None:
    machine.idle = {}
    with SharedCores() as cores:
        assert not machine.lets(cores, wait=0.3, idle={}).kept


@needs_linux
def test_beside_real_busy_processes_the_whole_process_keeps_to_fewer_cores() -> None:
    result = subprocess.run([sys.executable, "-c", BESIDE_BUSY_PROCESSES], capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == ["True"] * 4, (result.stdout, result.stderr)


@needs_linux
def test_a_core_on_which_a_process_counts_is_not_idle() -> None:
    core = max(os.sched_getaffinity(0))
    count = f"import os; os.sched_setaffinity(0, [{core}]); print(flush=True)\nwhile True: pass"
    busy = subprocess.Popen([sys.executable, "-c", count], stdout=subprocess.PIPE)
    try:
        assert busy.stdout and busy.stdout.readline()
        before, start = contention._seconds_idle(), time.perf_counter()
        time.sleep(0.5)
        after, passed = contention._seconds_idle(), time.perf_counter() - start
    finally:
        busy.kill()
    assert after[core] - before[core] < 0.1 * passed
    assert all(0 <= after[each] - before[each] <= passed + 0.1 for each in after)


@needs_linux
@pytest.mark.usefixtures("two_threads")
def test_spins_are_short_by_a_second_team_of_threads_that_ends(machine: Machine) -> None:
    torch.ones(2**18).mul_(2)
    before, cores = threads(), SharedCores()
    machine.lets(cores, wait=1.0, idle={})
    assert eventually(lambda: threads() == before + 2)
    machine.lets(cores, wait=0.0, idle={})
    assert eventually(lambda: threads() == before)


@needs_linux
@pytest.mark.usefixtures("two_threads")
def test_gradients_are_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    network, photos = accelerate(create_model("efficientnet_b0", 3)).train(), torch.randn(8, 3, 64, 64)
    monkeypatch.setattr(contention, "INTERVAL", 0)
    monkeypatch.setattr(contention, "BUSY", -1)
    monkeypatch.setattr(contention, "IDLE", math.inf)
    with SharedCores() as cores:
        once, has_two_cores = gradient(network, photos), len(os.sched_getaffinity(0)) > 1
        cores.adjust()
        assert cores.is_busy and bool(cores.kept) == has_two_cores
        assert torch.equal(gradient(network, photos), once)


def gradient(network: torch.nn.Module, photos: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    network.zero_grad()
    F.cross_entropy(network(photos), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])).backward()
    return torch.cat([value.grad.flatten() for value in network.parameters() if value.grad is not None])


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False
