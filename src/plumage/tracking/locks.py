"""One process at a time checks for something in a store and creates it, whatever repository or machine it runs on.

A SQLite store has lock files beside its database, another database its own advisory locks. A server has neither: there the
processes queue in the tags of the experiment or registered model that they are about to change (`_queue`).
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import NamedTuple

import sqlalchemy
from mlflow.exceptions import MlflowException
from sqlalchemy.pool import NullPool

from plumage.common.redaction import redacted
from plumage.errors import TrackingError
from plumage.tracking import server
from plumage.tracking.database import LOCK_SECONDS, database_file, locked
from plumage.tracking.tags import QUEUE

POLL_SECONDS = 0.5
BEAT_SECONDS = 2.0
DEAD_AFTER = 60
"""Polls in which a process of the queue shows no sign of life."""
CHOOSING = 0
ADVISORY = {
    "postgresql": "SELECT pg_try_advisory_lock(hashtext('plumage.{what}'))",
    "mysql": "SELECT GET_LOCK(LEFT(CONCAT('plumage.{what}.', DATABASE()), 64), 0)",
    "mssql": (
        "SET NOCOUNT ON; DECLARE @got int; EXEC @got = sp_getapplock @Resource = 'plumage.{what}', "
        "@LockMode = 'Exclusive', @LockOwner = 'Session', @LockTimeout = 0; SELECT CASE WHEN @got >= 0 THEN 1 ELSE 0 END"
    ),
}
"""Statements that try to take a lock until the end of the connection, and return whether they did."""


class Tags(NamedTuple):
    """The tags of something on a server: read all, set one, delete one."""

    read: Callable[[], Mapping[str, str]]
    write: Callable[[str, str], None]
    delete: Callable[[str], None]


def exclusive(uri: str, what: str = "", tags: Tags | None = None) -> AbstractContextManager[None]:
    """Hold the lock `what` of the store `uri`; default: that for creating it. On a server, processes queue in `tags`.

    Without `tags` nobody waits on a server: it creates a thing once, whoever asks first.

    Raises:
        TrackingError: another process holds it for LOCK_SECONDS.
    """
    if database := database_file(uri):
        return locked(database, what)
    if server.is_server(uri):
        return _queue(tags, f"{uri}: its {what}") if tags else nullcontext()
    statement = ADVISORY.get(sqlalchemy.make_url(uri).get_backend_name())
    return _advisory(uri, statement.format(what=what)) if statement else nullcontext()


@contextmanager
def _advisory(uri: str, statement: str) -> Iterator[None]:
    engine = sqlalchemy.create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with closing(engine.connect()) as connection:
        _wait(lambda: bool(connection.execute(sqlalchemy.text(statement)).scalar()), redacted(uri))
        yield


def _wait(is_done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while not is_done():
        if time.monotonic() > deadline:
            raise TrackingError(
                f"{what}: another process has held this lock for {LOCK_SECONDS} s; check whether it is stuck"
            )
        time.sleep(POLL_SECONDS)


@contextmanager
def _queue(tags: Tags, what: str) -> Iterator[None]:
    """Queue as at a bakery (Lamport 1974): take a number above all others, and wait until no lower one is left.

    A tag has a process's number and its beats. One that stops to beat, and so was killed, is removed by those who wait.
    """
    ticket = _Ticket(tags)
    try:
        ticket.take(1 + max((number for number, _ in _others(tags, ticket.key).values()), default=CHOOSING))
        seen: dict[str, _Seen] = {}
        _wait(lambda: _is_first(tags, ticket, seen), what)
        yield
    finally:
        ticket.give_back()


def _is_first(tags: Tags, ticket: "_Ticket", seen: "dict[str, _Seen]") -> bool:
    """Whether nobody is before `ticket`. What was seen of others is kept in `seen`."""
    others = _others(tags, ticket.key)
    ahead = [key for key, (number, _) in others.items() if (number, key) < ticket.place]
    for key in ahead:
        before = seen.get(key)
        polls = before.polls + 1 if before and before.value == others[key] else 0
        seen[key] = _Seen(others[key], polls)
        if polls >= DEAD_AFTER:
            _delete(tags, key)
    return not ahead


def _delete(tags: Tags, key: str) -> None:
    """Delete a tag, unless another process has just deleted it."""
    try:
        tags.delete(key)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


class _Seen(NamedTuple):
    """Number and beat of another process, and in how many polls they have been the same."""

    value: tuple[int, str]
    polls: int


def _others(tags: Tags, own: str) -> dict[str, tuple[int, str]]:
    """Number and beat of each other process in the queue, by its tag's key."""
    entries = {key: value.partition(".") for key, value in tags.read().items() if key.startswith(QUEUE) and key != own}
    return {key: (int(number) if number.isdecimal() else CHOOSING, beat) for key, (number, _, beat) in entries.items()}


class _Ticket:
    """This process's tag in a queue. A thread keeps it beating."""

    def __init__(self, tags: Tags) -> None:
        self.key = f"{QUEUE}{secrets.token_hex(8)}"
        self._tags, self._number, self._beat = tags, CHOOSING, 0
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)
        self._write()
        self._thread.start()

    @property
    def place(self) -> tuple[int, str]:
        return self._number, self.key

    def take(self, number: int) -> None:
        self._number = number
        self._write()

    def give_back(self) -> None:
        self._ended.set()
        self._thread.join()
        _delete(self._tags, self.key)

    def _write(self) -> None:
        with self._lock:
            self._beat += 1
            self._tags.write(self.key, f"{self._number}.{self._beat}")

    def _keep_beating(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self._write()
            except MlflowException:
                continue  # the next one may get through
