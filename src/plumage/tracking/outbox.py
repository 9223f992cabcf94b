"""What a long stage has to tell MLflow: written to disk first, delivered in order, so that a server may be away meanwhile.

A file a run in `.mlflow-waiting/` of the repository, locked by the process at the run; a line an entry, which goes when the
store has taken it. An entry that a killed process delivered but did not strike out is delivered again with the same time,
which the store takes for the same.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from plumage.common.files import atomic_path

FOLDER = ".mlflow-waiting"
SECONDS_BETWEEN_TRIES = 10.0
LAST_TRIES_SECONDS = 15.0
AWAY: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError, requests.RequestException, OSError)


class Outbox:
    """The entries of the run `run_id`, delivered by a thread, so that who adds them never waits."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.path = _folder(root) / f"{run_id}.jsonl"
        self._run_id = run_id
        self._mine = _lock_of(self.path)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = self._told = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Outbox":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._mine.acquire()
        self._thread.start()
        return self

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Send a point of each metric."""
        self._add({"metrics": dict(metrics), "step": step, "time": int(time.time() * 1000)})

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._add({"tags": dict(tags)})

    def end(self, status: str) -> None:
        """Give the run its last status."""
        self._add({"end": status})

    def _add(self, entry: dict[str, Any]) -> None:
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self._wake.set()

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(SECONDS_BETWEEN_TRIES if self._told else None)
            self._wake.clear()
            self._try()

    def _try(self) -> bool:
        """Deliver what waits; whether nothing is left."""
        try:
            while entries := _read(self.path):
                _deliver(self._run_id, entries)
                with self._lock:
                    _write(self.path, _read(self.path)[len(entries) :])
        except AWAY as error:
            if not self._told:
                print(
                    f"MLflow is away ({_first_line(error)}); what it should be told waits in {self.path.parent}",
                    flush=True,
                )
            self._told = True
            return False
        if self._told:
            print("MLflow is back, and told what waited", flush=True)
        self._told = False
        return True

    def __exit__(self, *_: object) -> None:
        """Try for some seconds more; what is left is delivered by the next stage that reaches the store."""
        self._closing = True
        self._wake.set()
        self._thread.join(LAST_TRIES_SECONDS)
        if self._thread.is_alive() or not self._try():
            print(f"MLflow is still away: the next stage that reaches it delivers {self.path}", flush=True)
        if not self._thread.is_alive():
            _let_go(self._mine)


def deliver_waiting(root: Path) -> None:
    """Deliver what earlier processes could not; what the store does not take is said, and stays."""
    for path in sorted(_folder(root).glob("*.jsonl")):
        lock = _lock_of(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue  # a process is at this run
        try:
            _deliver(path.stem, _read(path))
            path.unlink()
        except AWAY as error:
            print(f"{path}: can't be delivered ({_first_line(error)}); remove it if its run is gone", flush=True)
        finally:
            _let_go(lock)


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"))


def _let_go(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]


def _folder(root: Path) -> Path:
    """Of the store that MLflow points at: another one does not know its runs."""
    return root / FOLDER / hashlib.sha256(mlflow.get_tracking_uri().encode()).hexdigest()[:8]


def _read(path: Path) -> list[dict[str, Any]]:
    """The entries; a last line that a kill cut short was never said to be sent."""

    def whole() -> Iterator[dict[str, Any]]:
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return

    return list(whole())


def _write(path: Path, entries: list[dict[str, Any]]) -> None:
    if not entries:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as beside:
        beside.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")


def _deliver(run_id: str, entries: list[dict[str, Any]]) -> None:
    client = MlflowClient()
    for entry in entries:
        if "end" in entry:
            client.set_terminated(run_id, entry["end"])
            continue
        metrics = [
            Metric(name, value, entry["time"], entry["step"]) for name, value in entry.get("metrics", {}).items()
        ]
        tags = [RunTag(key, value) for key, value in entry.get("tags", {}).items()]
        client.log_batch(run_id, metrics=metrics, tags=tags)
