"""Metrics and tags of a long stage: written to disk first and delivered in order, so the MLflow server may be down meanwhile.

One file per run in `.mlflow-waiting/`, one line per entry, deleted once delivered. The process that logs to the run holds a
lock on its file. An entry that was delivered but not yet deleted when its process was killed is sent again with the same
timestamp; MLflow stores it once. A line that is damaged, or that the store refuses, goes to `<run>.damaged` beside it.
"""

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import mlflow
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from plumage.common.files import atomic_path, naming
from plumage.common.paths import OUTBOX
from plumage.common.text import plural
from plumage.tracking.artifacts import sqlite_database
from plumage.tracking.entries import (
    EPOCHS_PER_REQUEST,
    EndEntry,
    Entry,
    MetricsEntry,
    Status,
    deliver,
    deliver_metrics,
    from_line,
    to_line,
)
from plumage.tracking.store import STORE_ERRORS, first_line

RETRY_SECONDS = 10.0
CLOSE_SECONDS = 15.0
"""How long closing an outbox waits for the last entries to be delivered."""
MAX_BYTES = 2**26
"""No training writes more: 100,000 epochs. A larger file is not read."""
UNREACHABLE: tuple[type[Exception], ...] = (*STORE_ERRORS, OSError)
REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""MLflow's codes of errors that come again however often it is asked."""
LINE = re.compile(rb"\n*[^\n]+\n?|\n+")
"""A line, with the empty lines before it."""
RUN_ID = re.compile(r"\w{1,64}")


class Outbox:
    """Entries for the run `run_id`, delivered by a thread, so that adding one never blocks."""

    def __init__(self, root: Path, run_id: str) -> None:
        self.path = store_folder(root) / f"{run_id}.jsonl"
        self._file = _File(self.path)
        self._file_lock = _lock_of(self.path)
        self._wake = threading.Event()
        self._closing = self._outage_reported = False
        self._thread = threading.Thread(target=self._deliver_until_closed, daemon=True)

    def __enter__(self) -> "Outbox":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file_lock.acquire()
        self._thread.start()
        return self

    def add(self, entry: Entry) -> None:
        """Add an entry. It is on disk when this returns."""
        self._file.append(entry)
        self._wake.set()

    def end_later(self, status: Status) -> None:
        """Leave the run's end to the next stage that reaches the store."""
        self._file.append(EndEntry(end=status))

    def _deliver_until_closed(self) -> None:
        while not self._closing:
            self._wake.wait(RETRY_SECONDS if self._outage_reported else None)
            self._wake.clear()
            self._deliver_all()

    def _deliver_all(self) -> bool:
        """Deliver the waiting entries; return whether all were delivered."""
        try:
            self._file.deliver()
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


class _File:
    """The file of one run, `<run id>.jsonl`. Threads may add to it while its entries are delivered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def append(self, entry: Entry) -> None:
        with self._lock, naming(self.path), self.path.open("ab") as file:
            file.write(b"\n" + to_line(entry))  # a line that a kill cut short ends here; empty lines mean nothing

    def deliver(self) -> None:
        """Deliver all entries in order. What was delivered leaves the file, even if the store goes down meanwhile.

        Raises:
            One of UNREACHABLE: the store can't be reached, or no longer has the run.
        """
        while lines := self._lines():
            done, damaged = 0, []
            try:
                for batch in _batches(lines):
                    damaged += self._deliver_batch(batch)
                    done += len(batch)
            finally:
                self._set_aside(damaged)
                self._drop(sum(map(len, lines[:done])))

    def _lines(self) -> list[bytes]:
        with self._lock:
            return LINE.findall(self.path.read_bytes()) if self.path.exists() else []

    def _deliver_batch(self, lines: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Deliver the entries in lines. Return the lines that can never be delivered, and why."""
        if len(lines) > 1:
            try:
                deliver_metrics(self.path.stem, [*filter(None, map(_metrics, lines))])
            except MlflowException as error:
                if error.error_code not in REFUSED:
                    raise
            else:
                return []
        return [(line, problem) for line in lines if (problem := self._deliver_line(line))]

    def _deliver_line(self, line: bytes) -> str | None:
        """Deliver the entry in a line. Return why it can never be delivered; None if it was."""
        if not line.strip():
            return None
        try:
            entry = from_line(line)
        except ValueError as error:
            return str(error)
        try:
            deliver(self.path.stem, entry)
        except MlflowException as error:
            run = MlflowClient().get_run(self.path.stem).info
            if error.error_code not in REFUSED or run.lifecycle_stage != "active":
                raise
            return f"MLflow refuses it: {first_line(error)[:120]}"
        return None

    def _set_aside(self, damaged: Sequence[tuple[bytes, str]]) -> None:
        if not damaged:
            return
        aside = self.path.with_suffix(".damaged")
        with naming(aside), aside.open("ab") as file:
            file.writelines(line.strip(b"\n") + b"\n" for line, _ in damaged)
        print(
            f"{self.path}: {plural(len(damaged), 'line')} can't be delivered ({damaged[0][1]}); kept in {aside}",
            flush=True,
        )

    def _drop(self, count: int) -> None:
        """Remove the first `count` bytes."""
        with self._lock:
            rest = self.path.read_bytes()[count:]
            if not rest:
                self.path.unlink()
            elif count:
                with atomic_path(self.path) as beside:
                    beside.write_bytes(rest)


def _batches(lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The lines in order: of metrics, up to EPOCHS_PER_REQUEST at once; of anything else, one by one."""
    for are_metrics, group in groupby(lines, lambda line: _metrics(line) is not None):
        same, size = [*group], EPOCHS_PER_REQUEST if are_metrics else 1
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _metrics(line: bytes) -> MetricsEntry | None:
    with suppress(ValueError):
        return entry if isinstance(entry := from_line(line), MetricsEntry) else None
    return None


def deliver_pending(root: Path) -> None:
    """Deliver what earlier processes could not, and remove their locks. Print and keep what can't be delivered."""
    folder = store_folder(root)
    for path in sorted({path.with_suffix(".jsonl") for kind in ("*.jsonl", "*.lock") for path in folder.glob(kind)}):
        if not RUN_ID.fullmatch(path.stem):
            continue
        try:
            with suppress(Timeout):  # another process is logging to this run
                _deliver_file(path)
        except UNREACHABLE as error:
            reason = first_line(error)[:120]
            print(f"{path}: can't be delivered ({reason}); delete it if its run was deleted", flush=True)


def _deliver_file(path: Path) -> None:
    """Deliver the entries in a file. TimeoutError if another process holds its lock."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError("it is not a file")
    if path.exists() and path.stat().st_size > MAX_BYTES:
        raise OSError(f"it has {path.stat().st_size:,} bytes, more than any training writes")
    lock = _lock_of(path)
    lock.acquire(blocking=False)
    try:
        _File(path).deliver()
    finally:
        _release(lock)


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"))


def _release(lock: FileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def store_folder(root: Path) -> Path:
    """Folder of the store that MLflow points at; another store does not know its runs. It moves with the repository."""
    uri = mlflow.get_tracking_uri()
    database = sqlite_database(uri)
    store = str(database.relative_to(root)) if database and database.is_relative_to(root) else uri
    return root / OUTBOX / hashlib.sha256(store.encode()).hexdigest()[:8]
