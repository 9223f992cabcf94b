"""A run gets a final status however its process ends: none stays RUNNING."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from support import command_lines
from warm_python import warm_python

from plumage.tracking.execution import begin_execution
from plumage.tracking.open_run import open_run, training_run
from plumage.tracking.run import Stage

PARAMS = {"train.lr": 0.01}

CHILD = """
import contextlib, signal, time
from pathlib import Path
from plumage.tracking.execution import begin_execution
from plumage.tracking.open_run import open_run, training_run
from plumage.tracking.run import Stage

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored

for how in ("end", "fail", "SIGINT", "SIGTERM", "SIGKILL"):
    with contextlib.suppress(BaseException), training_run(Path.cwd(), how, "key", {"train.lr": 0.1}):
        print(how, flush=True)
        if how == "fail":
            raise ValueError("the loss is not finite")
        if how != "end":
            time.sleep(600)
"""


@pytest.mark.slow
def test_no_run_stays_running_however_its_process_ends(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([warm_python(), "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("SIG"):
            child.send_signal(signal.Signals[line.strip()])
    assert child.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 100
    while "RUNNING" in (found := status_by_experiment(root)).values():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert found == {"end": "FINISHED", "fail": "FAILED", "SIGINT": "KILLED", "SIGTERM": "KILLED", "SIGKILL": "KILLED"}


@pytest.mark.parametrize("stage", ["train", "register"])
def test_a_run_whose_disk_is_full_to_the_last_byte_fails(
    root: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage
) -> None:
    shutil.move(root / "mlflow.db", small_disk)
    monkeypatch.chdir(small_disk)
    execution = begin_execution(small_disk, "plumage", "key", PARAMS, stage)
    with (
        pytest.raises(OSError, match="No space left"),
        open_run(execution, stage),
        (small_disk / "photos").open("wb") as file,
    ):
        while True:
            os.write(file.fileno(), bytes(4096))
    assert status_by_experiment(small_disk) == {"plumage": "FAILED"}
    assert not list(small_disk.rglob("*.reserve"))


def status_by_experiment(root: Path) -> dict[str, str]:
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    return {names[run.info.experiment_id]: run.info.status for run in client.search_runs(list(names))}


def test_the_former_sigterm_handler_is_back_once_the_run_has_ended(root: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with training_run(root, "plumage", "key", PARAMS):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_watchdog_ends_with_the_run(root: Path) -> None:
    with training_run(root, "plumage", "key", PARAMS):
        [watchdog] = children()
    assert children() == [] and not psutil.pid_exists(watchdog)


def children() -> list[int]:
    return [pid for pid, words in command_lines().items() if any("watchdog.py" in word for word in words)]
