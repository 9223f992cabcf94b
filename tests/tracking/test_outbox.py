"""A tracking server that goes down during training stops nothing, and no metric is lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_servers import Server
from pipeline_outputs import KEY

from plumage.common.paths import OUTBOX
from plumage.tracking import outbox
from plumage.tracking.open_run import training_run
from plumage.tracking.resume import resume_run

PARAMS = {"train.lr": 0.01}


@pytest.fixture
def server(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    there = Server(root)
    there.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(outbox, "RETRY_SECONDS", 0.5)
    yield there
    there.kill()


def points(run_id: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in MlflowClient().get_metric_history(run_id, "train/loss")]


@pytest.mark.slow
def test_a_server_that_comes_back_gets_everything_in_order_and_once(
    server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_run(root, "plumage", KEY, PARAMS) as run:
        for epoch in range(1, 7):
            if epoch == 3:
                server.kill()
            if epoch == 5:
                server.start()
            started = time.monotonic()
            run.log_epoch(epoch, {"train/loss": 1 / epoch})
            assert time.monotonic() - started < 1  # training does not wait for the server
            time.sleep(0.3)
    assert points(run.id) == [(epoch, 1 / epoch) for epoch in range(1, 7)]
    assert MlflowClient().get_run(run.id).info.status == "FINISHED"
    said = capsys.readouterr().out
    assert said.count("MLflow is unreachable") == 1 and "MLflow is reachable again" in said
    assert not list((root / OUTBOX).rglob("*.jsonl"))


@pytest.mark.slow
def test_what_is_left_at_the_end_is_delivered_by_the_next_stage(
    server: Server, outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "CLOSE_SECONDS", 1.0)
    with training_run(outputs, "plumage", KEY, PARAMS) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        deadline = time.monotonic() + 100
        while not points(run.id):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        server.kill()
        run.log_epoch(2, {"train/loss": 0.5})
    server.start()
    assert points(run.id) == [(1, 1.0)]
    with resume_run(outputs, "plumage", PARAMS, "evaluate") as same:
        assert same.id == run.id and "train" in same.stages
    assert points(run.id) == [(1, 1.0), (2, 0.5)]
    assert not list((outputs / OUTBOX).rglob("*.jsonl"))


def test_an_entry_delivered_twice_is_one_point(root: Path) -> None:
    with training_run(root, "plumage", KEY, PARAMS) as run:
        run.log_epoch(1, {"train/loss": 1.0})
    [point] = MlflowClient().get_metric_history(run.id, "train/loss")
    entry = {"metrics": {"train/loss": 1.0}, "step": 1, "time": point.timestamp}
    outbox.deliver(run.id, [entry, entry])
    assert points(run.id) == [(1, 1.0)]


def test_a_line_that_a_kill_cut_short_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text('{"end": "FAILED"}\n{"metrics": {"train/lo')
    assert outbox._read(path) == [{"end": "FAILED"}]


def test_a_reopened_run_does_not_log_its_epochs_again(root: Path) -> None:
    with training_run(root, "plumage", KEY, PARAMS) as run:
        run.log_epoch(1, {"train/loss": 1.0})
    with training_run(root, "plumage", KEY, PARAMS, run.id) as again:
        assert again.id == run.id
        for epoch in (1, 2):
            again.log_epoch(epoch, {"train/loss": 1 / epoch})
    assert points(run.id) == [(1, 1.0), (2, 0.5)]


def test_entries_for_a_deleted_run_are_kept_and_stop_no_pipeline(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with training_run(root, "plumage", KEY, PARAMS) as run:
        pass
    path = run_path(root, "0" * 32)
    path.write_text('{"end": "FAILED"}\n')
    with training_run(root, "plumage", KEY, PARAMS) as again:
        assert again.id != run.id
    assert path.exists() and "can't be delivered" in capsys.readouterr().out


def test_entries_of_a_running_process_are_left_to_it(root: Path) -> None:
    with training_run(root, "plumage", KEY, PARAMS) as run:
        path = run_path(root, run.id)
        with run.outbox._lock:  # its thread waits meanwhile
            path.write_text('{"end": "FAILED"}\n')
            outbox.deliver_pending(root)
            assert path.exists()
            path.unlink()
    assert not list((root / OUTBOX).rglob("*.lock"))


def run_path(root: Path, run_id: str) -> Path:
    folder = outbox._store_folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{run_id}.jsonl"
