"""Which processes log to a run: each holds the lock of a file, which the system frees however the process ends.

The file is beside a SQLite database, so that all who share the store see it; for other stores it is in the repository. Its
name has the experiment and a token. The run has the same token, in a tag. Another file beside it takes the room that the run's end
needs on a full disk.
"""

import re
import secrets
from contextlib import suppress
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow import MlflowClient

from plumage.tracking.database import database_file, share
from plumage.tracking.outbox import UNREACHABLE, deliver_pending, store_folder
from plumage.tracking.store import first_line
from plumage.tracking.tags import PROCESS

RUNNING = "running"
NAME = re.compile(r"(\w+)-([0-9a-f]{32})")
RESERVE, RESERVED_BYTES = ".reserve", 2**18


class SignOfLife:
    """Shows, while it is entered, that this process is alive. Tag a run of the experiment with `token` before it is RUNNING."""

    def __init__(self, root: Path, experiment_id: str) -> None:
        self.token = secrets.token_hex(16)
        self.path = _folder(root) / f"{experiment_id}-{self.token}"
        self._lock, self._reserve = FileLock(self.path), reserve_of(self.path)

    def __enter__(self) -> "SignOfLife":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        if database := database_file(mlflow.get_tracking_uri()):
            share(database, self.path.parent)
            share(database, self.path)
        with suppress(OSError):  # a full disk ends the run anyway
            self._reserve.write_bytes(secrets.token_bytes(RESERVED_BYTES))  # no file system makes that smaller
        return self

    def make_room(self) -> None:
        """Free the reserved bytes, for the run's end on a full disk."""
        self._reserve.unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        """Free the lock. The file stays for `end_dead_runs`, unless `remove` was called."""
        self.make_room()
        self._lock.release()

    def remove(self) -> None:
        """Remove the file: the run has its final status."""
        self.make_room()
        self.path.unlink(missing_ok=True)


def reserve_of(path: Path) -> Path:
    """The file with reserved bytes of a sign of life."""
    return path.with_name(f"{path.name}{RESERVE}")


def recover(root: Path) -> None:
    """Deliver what earlier processes left, and end the runs of those that died together with their watchdog."""
    deliver_pending(root)
    end_dead_runs(root)


def end_dead_runs(root: Path) -> None:
    """Mark the runs KILLED whose process is gone. A process on another machine that shares the folder holds its lock, too."""
    for path in sorted(_folder(root).glob("*-*")):
        if named := NAME.fullmatch(path.name):
            try:
                with suppress(Timeout), FileLock(path, blocking=False):
                    reserve_of(path).unlink(missing_ok=True)
                    _end(*named.groups())
                    path.unlink(missing_ok=True)
            except PermissionError:
                continue  # another user's, who shares nothing
            except UNREACHABLE as error:
                print(f"{path}: the run of a killed process can't be ended ({first_line(error)[:120]})", flush=True)


def _end(experiment_id: str, token: str) -> None:
    client = MlflowClient()
    query = f"tags.`{PROCESS}` = '{token}' AND attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], query):
        client.set_terminated(run.info.run_id, "KILLED")
        print(f"MLflow run {run.info.run_id}: its process was killed; it is KILLED now", flush=True)


def _folder(root: Path) -> Path:
    """Folder of the files, for the store that MLflow points at."""
    database = database_file(mlflow.get_tracking_uri())
    return database.with_name(f"{database.name}.{RUNNING}") if database else store_folder(root) / RUNNING
