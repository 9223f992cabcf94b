"""A tracking server that goes down during training stops nothing, and no metric is lost."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_servers import Server
from pipeline_outputs import KEY

from plumage.common.paths import OUTBOX
from plumage.tracking import outbox
from plumage.tracking.alive import recover
from plumage.tracking.entries import EndEntry, MetricsEntry, TagsEntry, deliver, from_line, to_line
from plumage.tracking.open_run import training_run
from plumage.tracking.resume import resume_run
from plumage.tracking.store import connect

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
            run.log_epoch(epoch, {"train/loss": 1 / epoch})
            if epoch in (3, 4):  # training does not wait for the server
                assert any((root / OUTBOX).rglob("*.jsonl"))
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
    for _ in range(2):
        deliver(run.id, MetricsEntry(metrics={"train/loss": 1.0}, step=1, time=point.timestamp))
    assert points(run.id) == [(1, 1.0)]


LOSS = {"metrics": {"train/loss": 0.5}, "step": 1, "time": 1}
DAMAGED = {
    "cut short": b'{"metrics": {"train/lo',
    "zeros, as after a power cut": b"\0" * 300,
    "not UTF-8": b'{"tags": {"a": "\xff"}}',
    "of another shape": b'{"metrics": [1, 2], "step": 1, "time": 1}',
    "no object": b"[]",
    "a number": b"5",
    "null": b"null",
    "text for a number": b'{"metrics": {"a": "x"}, "step": 1, "time": 1}',
    "without a step": b'{"metrics": {"a": 1.0}, "time": 1}',
    "a step that no database holds": b'{"metrics": {"a": 1.0}, "step": 1000000000000000000000, "time": 1}',
    "a number of 5,000 digits": b'{"metrics": {"a": %s}, "step": 1, "time": 1}' % (b"9" * 5000),
    "a tag that is a list": b'{"tags": {"a": []}}',
    "of an unknown kind": b'{"params": {"a": "b"}}',
    "of an unknown status": b'{"end": "RUNNING"}',
    "deep": b"[" * 100_000,
    "with another checksum": b'{"tags":{"a":"b"}}\t00000000',
    "refused by MLflow": b'{"metrics": {"a\\u0000?": 1.0}, "step": 1, "time": 1}',
}


def test_damaged_lines_are_kept_and_named_and_all_others_delivered(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = pending(root)
    first, last = json.dumps(LOSS).encode(), b'{"end": "FAILED"}'
    path.write_bytes(b"\n".join([first, *DAMAGED.values(), to_line(TagsEntry(tags={"later": "yes"})), last, b""]))
    outbox.deliver_pending(root)
    found = MlflowClient().get_run(run)
    assert points(run) == [(1, 0.5)] and found.data.tags["later"] == "yes" and found.info.status == "FAILED"
    aside = path.with_suffix(".damaged")
    assert aside.read_bytes().splitlines() == list(DAMAGED.values())
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{path}: {len(DAMAGED)} lines can't be delivered (it is no entry); kept in {aside}"]
    assert not path.exists() and not list(path.parent.glob("*.lock"))


def test_a_damaged_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    line = to_line(MetricsEntry(metrics={"train/loss": 0.5}, step=1, time=1234567890123))
    for position in range(len(line) - 1):
        damaged = bytearray(line)
        damaged[position] ^= 1
        with pytest.raises(ValueError, match=r"checksum|no entry"):
            from_line(bytes(damaged))


def test_values_that_are_no_numbers_are_delivered(root: Path) -> None:
    for value in (float("nan"), float("inf"), -float("inf"), 0.1):
        entry = MetricsEntry(metrics={"a": value}, step=1, time=1)
        assert repr(from_line(to_line(entry))) == repr(entry)


def test_an_entry_after_a_line_that_a_kill_cut_short_is_delivered(root: Path) -> None:
    path, run = pending(root)
    path.write_bytes(b'{"metrics": {"train/lo')
    outbox._File(path).append(EndEntry(end="KILLED"))
    outbox.deliver_pending(root)
    assert MlflowClient().get_run(run).info.status == "KILLED"
    assert path.with_suffix(".damaged").read_bytes() == b'{"metrics": {"train/lo\n'


def test_a_run_whose_end_was_damaged_while_it_waited_does_not_stay_running(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise ConnectionError("no answer")

    with monkeypatch.context() as down, training_run(root, "plumage", KEY, PARAMS) as run:
        down.setattr(MlflowClient, "set_terminated", unreachable)
    (path,) = (root / OUTBOX).rglob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b"FINISHED", b"FIN\0SHED"))
    recover(root)
    assert MlflowClient().get_run(run.id).info.status == "KILLED"
    assert path.with_suffix(".damaged").exists() and not path.exists()


def test_during_training_a_refused_entry_holds_up_no_later_one(root: Path) -> None:
    with training_run(root, "plumage", KEY, PARAMS) as run:
        run.log_metrics({"what?": 1.0})
        run.log_epoch(1, {"train/loss": 1.0})
    assert points(run.id) == [(1, 1.0)] and MlflowClient().get_run(run.id).info.status == "FINISHED"


def test_epochs_that_waited_go_in_few_requests_and_one_that_is_refused_takes_none_along(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []
    log_batch = MlflowClient.log_batch
    monkeypatch.setattr(MlflowClient, "log_batch", lambda *a, **k: (requests.append(1), log_batch(*a, **k)))
    epochs = [MetricsEntry(metrics={"train/loss": 1 / n, "val/loss": 1.0}, step=n, time=n) for n in range(1, 121)]
    path, run = pending(root)
    path.write_bytes(b"\n".join(map(to_line, epochs)))
    outbox.deliver_pending(root)
    assert points(run) == [(n, 1 / n) for n in range(1, 121)] and len(requests) == 3

    path, run = pending(root)
    path.write_bytes(
        b"".join(map(to_line, [*epochs[:60], MetricsEntry(metrics={"what?": 1.0}, step=1, time=1), *epochs[60:]]))
    )
    outbox.deliver_pending(root)
    assert points(run) == [(n, 1 / n) for n in range(1, 121)]
    assert MlflowClient().get_run(run).data.metrics == {"train/loss": 1 / 120, "val/loss": 1.0}
    assert path.with_suffix(".damaged").read_bytes().count(b"\n") == 1


def test_what_is_no_outbox_is_named_and_stops_no_stage(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = pending(root)
    folder = path.parent
    monkeypatch.setattr(outbox, "MAX_BYTES", 1000)
    (folder / "huge.jsonl").write_bytes(b" " * 1001)
    (folder / "folder.jsonl").mkdir()
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "link.jsonl").symlink_to("/dev/zero")
    outbox.deliver_pending(root)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4 and all("can't be delivered" in line for line in said)
    assert "huge.jsonl: can't be delivered (it has 1,001 bytes, more than any training writes)" in "\n".join(said)
    assert (folder / "huge.jsonl").stat().st_size == 1001


def test_locks_that_killed_processes_left_are_removed(root: Path) -> None:
    path, _ = pending(root)
    path.with_suffix(".lock").touch()
    outbox.deliver_pending(root)
    assert list(path.parent.iterdir()) == []


def pending(root: Path) -> tuple[Path, str]:
    """The outbox file of a new run that is RUNNING, and the run's id."""
    experiment = connect(root, "plumage")
    run = MlflowClient().create_run(experiment).info.run_id
    return run_path(root, run), run


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
        with run.outbox._file._lock:  # its thread waits meanwhile
            path.write_text('{"end": "FAILED"}\n')
            outbox.deliver_pending(root)
            assert path.exists()
            path.unlink()
    assert not list((root / OUTBOX).rglob("*.lock"))


def run_path(root: Path, run_id: str) -> Path:
    folder = outbox.store_folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{run_id}.jsonl"
