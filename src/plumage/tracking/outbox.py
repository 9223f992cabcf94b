"""Metrics and tags of a long stage: written to disk first and delivered in order, so the MLflow server may be down meanwhile.

One file per run in `.mlflow-waiting/`, one line per entry, deleted once delivered. The process that logs to the run holds a
lock on its file. An entry that was delivered but not yet deleted when its process was killed is sent again with the same
timestamp; MLflow stores it once.
"""

import hashlib
import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from plumage.common.files import naming, write_text
from plumage.common.paths import OUTBOX
from plumage.tracking.artifacts import sqlite_database
from plumage.tracking.store import STORE_ERRORS, first_line

RETRY_SECONDS = 10.0
CLOSE_SECONDS = 15.0
"""How long closing an outbox waits for the last entries to be delivered."""
UNREACHABLE: tuple[type[Exception], ...] = (*STORE_ERRORS, OSError)


class Outbox:
    """Entries for the run `run_id`, delivered by a thread, so that adding one never blocks."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.path = _store_folder(root) / f"{run_id}.jsonl"
        self._run_id = run_id
        self._file_lock = _lock_of(self.path)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = self._outage_reported = False
        self._thread = threading.Thread(target=self._deliver_until_closed, daemon=True)

    def __enter__(self) -> "Outbox":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file_lock.acquire()
        self._thread.start()
        return self

    def add(self, entry: dict[str, Any]) -> None:
        """Add an entry, as `deliver` takes it."""
        with self._lock, naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self._wake.set()

    def _deliver_until_closed(self) -> None:
        while not self._closing:
            self._wake.wait(RETRY_SECONDS if self._outage_reported else None)
            self._wake.clear()
            self._deliver_all()

    def _deliver_all(self) -> bool:
        """Deliver the waiting entries; return whether all were delivered."""
        try:
            while entries := _read(self.path):
                deliver(self._run_id, entries)
                with self._lock:
                    _write(self.path, _read(self.path)[len(entries) :])
        except UNREACHABLE as error:
            if not self._outage_reported:
                reason = first_line(error)[:120]
                print(f"MLflow is unreachable ({reason}); metrics and tags wait in {self.path.parent}", flush=True)
            self._outage_reported = True
            return False
        if self._outage_reported:
            print("MLflow is reachable again; everything that waited was delivered", flush=True)
        self._outage_reported = False
        return True

    def __exit__(self, *_: object) -> None:
        """Try for CLOSE_SECONDS more. The next stage that reaches the store delivers what is left."""
        self._closing = True
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive() or not self._deliver_all():
            print(f"MLflow is still unreachable; the next stage that reaches it delivers {self.path}", flush=True)
        if not self._thread.is_alive():
            _release(self._file_lock)


def deliver_pending(root: Path) -> None:
    """Deliver what earlier processes could not. Print and keep what the store refuses."""
    for path in sorted(_store_folder(root).glob("*.jsonl")):
        lock = _lock_of(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue  # another process is logging to this run
        try:
            deliver(path.stem, _read(path))
            path.unlink()
        except UNREACHABLE as error:
            print(
                f"{path}: can't be delivered ({first_line(error)[:120]}); delete it if its run was deleted", flush=True
            )
        finally:
            _release(lock)


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"))


def _release(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def _store_folder(root: Path) -> Path:
    """Folder of the store that MLflow points at; another store does not know its runs. It moves with the repository."""
    uri = mlflow.get_tracking_uri()
    database = sqlite_database(uri)
    store = str(database.relative_to(root)) if database and database.is_relative_to(root) else uri
    return root / OUTBOX / hashlib.sha256(store.encode()).hexdigest()[:8]


def _read(path: Path) -> list[dict[str, Any]]:
    """Entries of a file, without a last line that a kill cut short."""
    entries = []
    with suppress(json.JSONDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            entries.append(json.loads(line))
    return entries


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    if not entries:
        path.unlink(missing_ok=True)
        return
    write_text(path, "".join(json.dumps(entry) + "\n" for entry in entries))


def deliver(run_id: str, entries: list[dict[str, Any]]) -> None:
    """Send entries to the store: `metrics` with `step` and `time` (ms), `tags`, or the status to `end` the run with."""
    client = MlflowClient()
    for entry in entries:
        if "end" in entry:
            client.set_terminated(run_id, entry["end"])
            continue
        points = entry.get("metrics", {})
        metrics = [Metric(name, value, entry["time"], entry["step"]) for name, value in points.items()]
        tags = [RunTag(key, value) for key, value in entry.get("tags", {}).items()]
        client.log_batch(run_id, metrics=metrics, tags=tags, synchronous=True)
