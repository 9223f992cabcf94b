"""Beside other processes threads spin less, alone they don't; what is computed stays the same."""

import itertools
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
from plumage.training.contention import ShortSpins

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how long a thread waits for a core")

ON_A_SHARED_CORE = """
import os, subprocess, sys, time
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from plumage.training.contention import ShortSpins
busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
try:
    spins, end = ShortSpins(), time.monotonic() + 60
    while not spins.are_on and time.monotonic() < end:
        sum(range(10_000))
        spins.adjust()
    print(spins.are_on)
finally:
    busy.kill()
"""


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the system says of this thread's waiting in turn, in seconds since the last look, a second ago each."""
    seconds: list[float] = []
    clock, total = itertools.count(), itertools.count()
    monkeypatch.setattr(contention, "_seconds_delayed", lambda: sum(seconds[: next(total)]))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    return seconds


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_they_are_on_while_this_thread_waits_for_a_core_much_of_the_time(delays: list[float]) -> None:
    delays += [0.1, 0.3, 0.5, 0.01, 0.4]
    with ShortSpins() as spins:
        seen = []
        for _ in delays:
            spins.adjust()
            seen.append(spins.are_on)
    assert seen == [False, True, True, False, True] and not spins.are_on


@needs_linux
def test_beside_a_busy_process_they_are_on() -> None:
    result = subprocess.run([sys.executable, "-c", ON_A_SHARED_CORE], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "True", result.stderr


@needs_linux
@pytest.mark.usefixtures("two_threads")
def test_they_keep_a_second_team_of_threads_and_let_it_go(delays: list[float]) -> None:
    torch.ones(2**18).mul_(2)
    delays += [1.0, 0.0]
    before, spins = threads(), ShortSpins()
    spins.adjust()
    assert eventually(lambda: threads() == before + 2)
    spins.adjust()
    assert eventually(lambda: threads() == before)


@pytest.mark.usefixtures("two_threads")
def test_gradients_are_the_same_bytes(delays: list[float]) -> None:
    delays += [1.0]
    network, photos = accelerate(create_model("efficientnet_b0", 3)).train(), torch.randn(8, 3, 64, 64)
    with ShortSpins() as spins:
        once = gradient(network, photos)
        spins.adjust()
        assert spins.are_on and torch.equal(gradient(network, photos), once)


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
