"""Processes that share a store change it one after the other, whatever kind of store it is."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow_servers import Server
from warm_python import warm_python

from plumage.errors import TrackingError
from plumage.tracking import locks
from plumage.tracking.locks import Tags, exclusive
from plumage.tracking.store import connect

SERVER = "http://127.0.0.1:5000"
COUNT = """
import sys, time
from pathlib import Path
from mlflow import MlflowClient
from plumage.tracking.store import connect, ignoring_existing, lock_model, lock_runs

root = Path.cwd()
experiment = connect(root, "plumage")
client = MlflowClient()
with ignoring_existing():
    client.create_registered_model("counted")
for _ in range(3):
    with lock_model(root, "counted"):
        count = int(client.get_registered_model("counted").tags.get("count", 0))
        time.sleep(0.1)
        client.set_registered_model_tag("counted", "count", str(count + 1))
    with lock_runs(root, experiment):
        count = int(client.get_experiment(experiment).tags.get("count", 0))
        time.sleep(0.1)
        client.set_experiment_tag(experiment, "count", str(count + 1))
"""


PATH = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server, reached through a socket."""
    if not shutil.which("initdb", path=PATH) or not importlib.util.find_spec("psycopg2"):
        pytest.skip("needs PostgreSQL and psycopg2")
    with tempfile.TemporaryDirectory() as folder:
        user = {"user": "nobody"} if os.geteuid() == 0 else {}  # it refuses to run as root
        if user:
            shutil.chown(folder, **user)
        data, environment = f"{folder}/data", {**os.environ, "PATH": PATH}
        initialise = ["initdb", "-D", data, "-U", "plumage", "--auth=trust", "--no-sync"]
        subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, env=environment, cwd="/", **user)
        serve = ["postgres", "-D", data, "-k", folder, "-c", "listen_addresses="]
        process = subprocess.Popen(serve, stderr=subprocess.DEVNULL, env=environment, cwd="/", **user)
        try:
            deadline = time.monotonic() + 60
            while not Path(folder, ".s.PGSQL.5432").exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield f"postgresql+psycopg2://plumage@/postgres?host={folder}"
        finally:
            process.send_signal(signal.SIGINT)  # SIGTERM waits for its clients
            process.wait()


@contextmanager
def store(kind: str, folder: Path) -> Iterator[str]:
    if kind == "PostgreSQL":
        with postgres() as uri:
            yield uri
    elif kind == "server":
        server = Server(folder)
        server.start()
        yield server.url
        server.kill()
    else:
        yield f"sqlite:///{folder}/mlflow.db"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["SQLite", "server", "PostgreSQL"])
def test_clones_that_start_together_on_one_store_take_turns(kind: str, tmp_path: Path) -> None:
    clones = [tmp_path / name for name in ("one", "two", "three")]
    shared = tmp_path / "shared"
    for folder in (*clones, shared):
        folder.mkdir()
    with store(kind, shared) as uri:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MLFLOW_TRACKING_URI": uri}
        command = [warm_python(), "-c", COUNT]
        running = [subprocess.Popen(command, cwd=clone, env=environment) for clone in clones]
        assert [process.wait(timeout=300) for process in running] == [0, 0, 0]
        client = MlflowClient(uri, uri)
        (experiment,) = client.search_experiments(filter_string="name = 'plumage'")
        found = {**client.get_registered_model("counted").tags}, {**experiment.tags}
    assert [tags["count"] for tags in found] == ["9", "9"]
    assert not [key for tags in found for key in tags if key.startswith("plumage.queue.")]


class Board:
    """Tags of something on a server, without a server."""

    def __init__(self) -> None:
        self.content: dict[str, str] = {}
        self.lock = Lock()

    def tags(self) -> Tags:
        return Tags(self.read, self.write, self.delete)

    def read(self) -> dict[str, str]:
        with self.lock:
            return dict(self.content)

    def write(self, key: str, value: str) -> None:
        with self.lock:
            self.content[key] = value

    def delete(self, key: str) -> None:
        with self.lock:
            if self.content.pop(key, None) is None:  # as a server answers for an experiment
                raise MlflowException(f"No tag with name: {key}", RESOURCE_DOES_NOT_EXIST)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.005)
    monkeypatch.setattr(locks, "DEAD_AFTER", 1000)
    return Board()


def test_in_a_queue_only_one_goes_on_at_a_time(board: Board) -> None:
    inside, most = [], []

    def work(number: int) -> None:
        for _ in range(5):
            with exclusive(SERVER, "models", board.tags()):
                inside.append(number)
                time.sleep(0.001)
                most.append(len(inside))
                inside.remove(number)

    threads = [Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 30 and board.content == {}


@pytest.mark.parametrize("left", ["0.1", "1.7", "nonsense", ""])
def test_one_who_was_killed_in_a_queue_holds_nobody_up(
    board: Board, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "DEAD_AFTER", 10)
    board.content = {"plumage.queue.0123": left, "another": "tag"}
    with exclusive(SERVER, "models", board.tags()):
        assert "plumage.queue.0123" not in board.content
    assert board.content == {"another": "tag"}


def test_one_who_works_for_long_is_waited_for(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LOCK_SECONDS", 0.5)
    with exclusive(SERVER, "models", board.tags()):
        with (
            pytest.raises(TrackingError, match=r"its models: another process has held this lock for 0\.5 s"),
            exclusive(SERVER, "models", board.tags()),
        ):
            pass
        assert len(board.content) == 1


def test_a_store_has_one_lock_whatever_the_path_to_it(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("elsewhere") / "linked.db"
    link.symlink_to(root / "mlflow.db")
    connect(root, "plumage")
    with exclusive(f"sqlite:///{link}", "models"):
        assert (root / "mlflow.db.models.lock").exists()
        assert not list(link.parent.glob("*.lock"))
