"""Work in processes: results in order, bounded memory, and no process outlives its parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from plumage.common import workers
from plumage.common.workers import begin, map_in_processes
from plumage.errors import DataError


def double(number: int) -> int:
    return 2 * number


def die(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def in_steps(number: int, faults: dict[int, str] | None = None) -> list[str]:
    """Five steps per item; one of item 1 crashes, one of item 2 hangs, two of item 3 exit."""
    done = []
    for step in range(5):
        if faults and step in faults:
            done.append(faults[step])
            continue
        begin(step)
        if (number, step) == (1, 2):
            os.kill(os.getpid(), signal.SIGSEGV)
        if (number, step) == (2, 4):
            time.sleep(1000)
        if number == 3 and step < 2:
            os._exit(5)
        done.append("done")
    return done


def fail(number: int) -> int:
    raise DataError(f"{number} is broken")


def test_results_are_in_order_and_items_are_not_consumed_far_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    results = map_in_processes(double, items(), processes=2)
    assert [next(results) for _ in range(20)] == list(range(0, 40, 2))
    assert taken < 30
    results.close()


def test_an_error_reaches_the_caller_and_no_process_remains() -> None:
    with pytest.raises(DataError, match="0 is broken"):
        list(map_in_processes(fail, range(20), processes=2))
    assert not multiprocessing.active_children()


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(DataError, match="worker process was killed"):
        list(map_in_processes(die, range(50), processes=2))


def test_a_step_that_crashes_or_hangs_is_left_out_and_the_others_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS_PER_STEP", 2)
    first, crashed, hung, exited, last = map_in_processes(in_steps, range(5), processes=2)
    assert first == last == ["done"] * 5
    assert crashed == ["done", "done", "was killed (SIGSEGV)", "done", "done"]
    assert hung == ["done"] * 4 + ["took over 2 seconds"]
    assert exited == ["was killed (exit code 5)"] * 2 + ["done"] * 3
    assert not multiprocessing.active_children()


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\nfrom plumage.common.workers import map_in_processes\n"
        "if __name__ == '__main__':\n"
        "    for _ in map_in_processes(time.sleep, [0.5] * 1000, processes=2):\n        print('one', flush=True)\n"
    )
    source = str(Path(__file__).parents[2] / "src")
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    workers = psutil.Process(parent.pid).children()
    assert len(workers) >= 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(worker.is_running() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(worker.is_running() for worker in workers)
