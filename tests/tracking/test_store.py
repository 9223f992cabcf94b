"""The store is found, created once, and refused in one line if it can't be used."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from warm_python import warm_python

from plumage.errors import TrackingError
from plumage.tracking.store import connect, first_line, one_line_errors, tracking_uri, use_store


@pytest.fixture(autouse=True)
def no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_store_and_artifacts_are_at_the_root_whatever_its_path(tmp_path: Path) -> None:
    root = tmp_path / "my birds %41 ü"
    root.mkdir()
    experiment = connect(root, "plumage")
    with mlflow.start_run(experiment_id=experiment):
        mlflow.log_text("here", "note.txt")
    assert (root / "mlflow.db").is_file()
    assert [path.read_text() for path in (root / "mlartifacts").rglob("note.txt")] == ["here"]
    assert connect(root, "plumage") == experiment


def test_each_repository_that_a_process_uses_has_its_own_store(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert use_store(tmp_path / name, create=True) == f"sqlite:///{tmp_path}/{name}/mlflow.db"


@pytest.mark.slow
def test_two_processes_that_start_together_share_one_experiment(tmp_path: Path) -> None:
    code = "from pathlib import Path; from plumage.tracking.store import connect; print(connect(Path.cwd(), 'a'))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen([warm_python(), "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = {process.communicate(timeout=100)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(printed) == 1


def test_the_environments_tracking_uri_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(tmp_path) == "http://127.0.0.1:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/store.db")
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/runs/store.db"


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9",
        "postgresql://bird:secret@127.0.0.1:9/mlflow",
        "sqlite:////proc/nowhere/mlflow.db",
        "nonsense://x",
        "databricks-uc",
        "sqlite:mlflow.db",
        "postgresql://bird:secret@127.0.0.1:x/mlflow",
        "https://bird:secret@127.0.0.1:x/mlflow",
        "http://[::1",
        "file:///somewhere/mlruns",
    ],
)
def test_an_unreachable_store_is_a_one_line_error(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError) as caught:
        connect(tmp_path, "plumage")
    message = str(caught.value)
    assert "\n" not in message and uri.split("secret@")[-1] in message and "secret" not in message


def test_a_reason_that_mlflow_gives_on_a_later_line_is_kept() -> None:
    with pytest.raises(TrackingError) as caught, one_line_errors("the store"):
        raise MlflowException("Failures while downloading:\n##### File a.txt #####\n[Errno 5] Input/output error")
    assert (
        str(caught.value)
        == "the store: Failures while downloading: ##### File a.txt ##### [Errno 5] Input/output error"
    )


def test_an_error_of_the_database_is_one_line_without_mlflows_wrapping(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = connect(tmp_path, "plumage")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("DROP TABLE runs")
    with pytest.raises(TrackingError) as caught, one_line_errors("MLflow"):
        mlflow.start_run(experiment_id=experiment)
    assert str(caught.value) == "MLflow: no such table: runs"
    assert capsys.readouterr() == ("", "")


def test_a_file_that_is_not_a_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("birds" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db: .*not a database"):
        connect(tmp_path, "plumage")


def test_a_deleted_experiment_is_an_error_that_tells_how_to_restore_it(root: Path) -> None:
    mlflow.delete_experiment(connect(root, "plumage"))
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        connect(root, "plumage")


def test_mlflow_telemetry_is_off() -> None:
    code = (
        "import plumage.tracking.open_run; from mlflow.telemetry.client import get_telemetry_client as client; "
        "print(client())"
    )
    ours = ("PYTEST_CURRENT_TEST", "CI", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, env=environment, capture_output=True, text=True).stdout == "None\n"


def test_a_full_disk_in_one_of_mlflows_errors_is_called_one() -> None:
    copying = "failures occurred: ##### File a ##### [Errno 28] No space left on device: 'models/a' -> '/tmp/x/a'"
    full = "the disk is full; make room, then run the same command again"
    assert first_line(MlflowException(copying)) == f"/tmp/x/a: {full}"
    assert first_line(MlflowException("(sqlite3.OperationalError) database or disk is full")) == full
