"""A run whose process and watchdog both died is ended by the next command, and a live one by none."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from plumage.tracking.alive import end_dead_runs
from plumage.tracking.open_run import training_run
from plumage.tracking.store import use_store

PARAMS = {"train.lr": 0.01}
TRAINING = """
import time
from pathlib import Path
from plumage.tracking.open_run import training_run

with training_run(Path.cwd(), "plumage", "key", {"train.lr": 0.1}) as run:
    print("run", run.id, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_run_whose_process_and_watchdog_died_is_ended_by_a_command_in_another_clone(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("clone")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TRAINING]
    dying, living = (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=folder)
        for folder in (root, other)
    )
    try:
        killed, alive = (run_of(process) for process in (dying, living))
        for process in [*psutil.Process(dying.pid).children(recursive=True), psutil.Process(dying.pid)]:
            process.kill()
        dying.wait()
        with training_run(other, "plumage", "another key", PARAMS):
            pass
        client = MlflowClient()
        assert client.get_run(killed).info.status == "KILLED" and client.get_run(alive).info.status == "RUNNING"
        living.send_signal(signal.SIGTERM)
        living.wait()
        assert client.get_run(alive).info.status == "KILLED"
    finally:
        dying.kill()
        living.kill()
    assert list((root / "mlflow.db.running").iterdir()) == []


def run_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return next(line.split()[1] for line in process.stdout if line.startswith("run "))


def test_only_a_run_that_is_still_running_is_ended_for_its_dead_process(root: Path) -> None:
    with training_run(root, "plumage", "key", PARAMS) as run:
        sign, reserve = sorted((root / "mlflow.db.running").iterdir())
        end_dead_runs(root)
        assert MlflowClient().get_run(run.id).info.status == "RUNNING" and sign.exists()
    sign.touch()
    end_dead_runs(root)
    assert MlflowClient().get_run(run.id).info.status == "FINISHED" and not sign.exists() and not reserve.exists()
    assert "plumage.process" not in MlflowClient().get_run(run.id).data.tags


def test_a_process_that_died_before_it_opened_its_run_leaves_nothing(root: Path) -> None:
    use_store(root, create=True)
    folder = root / "mlflow.db.running"
    folder.mkdir()
    (folder / f"1-{'0' * 32}").touch()
    (folder / "notes.txt").touch()
    end_dead_runs(root)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
