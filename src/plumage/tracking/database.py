"""The SQLite file of an MLflow store: made and migrated in a copy, which is renamed into place once it is complete.

MLflow itself creates and migrates its tables one by one in the file in use. If it is killed meanwhile, it can't open the file
again.
"""

import os
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import filelock
import sqlalchemy
from alembic import command
from alembic.util import CommandError
from mlflow.store.db import utils
from mlflow.version import VERSION
from sqlalchemy.exc import SQLAlchemyError

from plumage.common.files import FULL, atomic_path, is_full, remove
from plumage.errors import TrackingError
from plumage.tracking.artifacts import sqlite_database

LOCK_SECONDS = 600
SIDE_FILES = ("-journal", "-wal", "-shm")
"""Suffixes of the files that SQLite keeps beside a database while writing. Each belongs to this one database."""
QUIET_SECONDS = 2.0
"""If an incomplete database was written more recently, another process may still be creating it."""
BUSY_SECONDS = 20.0
DAMAGE = ("SQLITE_ERROR", "SQLITE_CONSTRAINT", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""Prefixes of the SQLite errors for missing or surplus tables, damaged pages and foreign files."""


class DamagedError(TrackingError):
    """A database is incomplete or damaged; `plumage repair` rebuilds it from what can be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: is incomplete or damaged ({reason}); `plumage repair` saves the runs in it")
        self.reason = reason


def prepare_database(uri: str) -> None:
    """Create the SQLite database of the store `uri` if it is missing, and migrate it if MLflow has a newer schema.

    A migrated database is kept as it was, as `<name>.<schema>.backup`. Stores that are not SQLite files are left to MLflow.

    Raises:
        DamagedError: the database is incomplete or damaged.
        TrackingError: it can't be written, or is another program's or a newer MLflow's.
    """
    path = database_file(uri)
    if path is None or is_current(path):
        return
    with locked(path):
        wait_for_others(path)
        if not path.exists():
            create(path)
        elif schema_of(path) != newest_schema():
            migrate(path)


def database_file(uri: str) -> Path | None:
    """The SQLite file of the store `uri`; None for other databases and servers, and for SQLite in memory."""
    path = sqlite_database(uri)
    return Path(os.path.realpath(path)) if path and path.is_symlink() else path  # a rename would replace the link


def newest_schema() -> str:
    """The schema version that this MLflow works with."""
    return str(utils._get_latest_schema_revision())


def is_current(path: Path) -> bool:
    """Whether there is a database of the newest schema."""
    try:
        return path.exists() and schema_of(path) == newest_schema()
    except DamagedError:
        return False


def wait_for_others(path: Path) -> None:
    """Wait while something other than Plumage, such as `mlflow ui`, may be just making the database."""
    deadline = time.monotonic() + BUSY_SECONDS
    while path.exists() and time.time() - path.stat().st_mtime < QUIET_SECONDS and time.monotonic() < deadline:
        if is_current(path):
            return
        time.sleep(0.1)


def schema_of(path: Path) -> str | None:
    """The schema version of the database; None before MLflow's first migration.

    Raises:
        DamagedError: it has no tables, or is damaged.
        TrackingError: it is no file, another program's, or can't be read.
    """
    if not path.is_file():
        raise TrackingError(f"{path}: is not a file; move it away, or put an MLflow database there")
    if not os.access(path, os.R_OK):
        raise TrackingError(f"{path}: you don't have permission to read it")
    with one_line_database_errors(path), closing(connect(path)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            raise DamagedError(path, "it is empty")
        if "alembic_version" in tables:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return row and str(row[0])
        if not tables & {"experiments", "runs"}:
            raise TrackingError(f"{path}: is another program's database; takes a new file or an MLflow database")
        return None


def create(path: Path) -> None:
    """Create an empty store's database."""
    with beside(path) as new:
        upgrade(new)


def migrate(path: Path) -> None:
    """Migrate the database to the newest schema, and keep it as it was. Other processes can't write to it meanwhile."""
    before = schema_of(path)
    if not os.access(path, os.W_OK):
        raise TrackingError(
            f"{path}: has to be migrated to MLflow {VERSION} and is read-only; make it or a copy writable"
        )
    backup = path.with_name(f"{path.name}.{before or 'initial'}.backup")
    with one_line_database_errors(path), closing(connect(path)) as writers, beside(path) as new:
        if writers.execute("PRAGMA journal_mode = DELETE").fetchone()[0] != "delete":  # a WAL would outlive the rename
            raise TrackingError(f"{path}: another process has it open; end it, then try again")
        writers.execute("BEGIN IMMEDIATE")
        _copy(path, new)
        try:
            upgrade(new)
        except CommandError as error:
            raise TrackingError(
                f"{path}: has schema {before}, unknown to MLflow {VERSION}; install the newer MLflow that made it"
            ) from error
        except Exception as error:  # MLflow's migrations raise anything, KeyError too, on tables that they don't expect
            if is_disk_error(error):
                raise
            raise DamagedError(path, f"its creation or migration was cut off: {reason_of(error)}") from error
        with beside(backup, original=path) as kept:
            _copy(path, kept)
    print(
        f"{path}: migrated to the schema of MLflow {VERSION}; the previous file is {backup}",
        file=sys.stderr,
        flush=True,
    )


def upgrade(path: Path, schema: str = "heads") -> None:
    """Bring a database, new or with an earlier schema, to `schema`, as `mlflow db upgrade` does."""
    engine = sqlalchemy.create_engine(sqlalchemy.URL.create("sqlite", database=str(path)))
    # `beside` syncs the file once. Until then nobody needs it on disk, and MLflow has dozens of migrations.
    sqlalchemy.event.listen(engine, "connect", lambda database, _: database.execute("PRAGMA synchronous = OFF"))
    try:
        if utils._get_schema_version(engine) is None:
            utils.InitialBase.metadata.create_all(engine)
        config = utils._get_alembic_config("sqlite://")
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, schema)
    finally:
        engine.dispose()


@contextmanager
def beside(path: Path, original: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path for a database, which becomes `path`, on disk, on success. Leftovers of a killed attempt are removed.

    It gets the permissions, and if possible the owner, of `original`; default: of the one that it replaces.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with one_line_database_errors(path):
        with atomic_path(path) as new:
            remove_side_files(new)
            try:
                yield new
                with new.open("rb+") as file:
                    os.fsync(file.fileno())
                _copy_permissions(original or path, new)
                remove_side_files(path)  # one without its database would be applied to the new one
            finally:
                remove_side_files(new)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _copy_permissions(path: Path, new: Path) -> None:
    if path.exists():
        found = path.stat()
        with suppress(PermissionError):
            os.chown(new, found.st_uid, found.st_gid)
        new.chmod(stat.S_IMODE(found.st_mode))


def share(path: Path, new: Path) -> None:
    """Let everyone who may write to the database `path` write to the file or folder `new` beside it, as SQLite does."""
    if path.exists() and new.stat().st_uid == os.geteuid():
        mode = stat.S_IMODE(path.stat().st_mode) | stat.S_IRUSR | stat.S_IWUSR
        new.chmod(mode | (mode & 0o444) >> 2 if new.is_dir() else mode)
        with suppress(PermissionError):
            os.chown(new, -1, path.stat().st_gid)


def remove_side_files(path: Path) -> None:
    """Remove SQLite's side files of a database."""
    for suffix in SIDE_FILES:
        remove(side_file(path, suffix))


def side_file(path: Path, suffix: str) -> Path:
    """The side file of a database with one of SIDE_FILES."""
    return path.with_name(path.name + suffix)


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing database. SQLite undoes what a killed process left unfinished."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
    database.isolation_level = None
    return database


def _copy(path: Path, target: Path) -> None:
    with closing(connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


@contextmanager
def locked(path: Path, what: str = "") -> Iterator[None]:
    """Hold the lock `what` of the database at `path`, so that only one process at a time checks for something and creates it.

    Reentrant. Its file stays, and holds nobody up: the system frees the lock of a process that ends. A database on a read-only
    disk needs no lock: nothing can be created there.
    """
    if path.parent.exists() and not os.access(path.parent, os.W_OK):
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(".".join(filter(None, (path.name, what, "lock"))))
    try:
        with filelock.FileLock(file, timeout=LOCK_SECONDS, is_singleton=True):
            share(path, file)
            yield
    except filelock.Timeout as error:
        raise TrackingError(
            f"{error.lock_file}: another process has held this lock for {LOCK_SECONDS} s; check whether it is stuck"
        ) from error


@contextmanager
def one_line_database_errors(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the disk into a TrackingError of one line that names `path`."""
    try:
        yield
    except (sqlite3.Error, SQLAlchemyError, OSError) as error:
        if _sqlite_name(error).startswith(DAMAGE):
            raise DamagedError(path, reason_of(error)) from error
        raise TrackingError(f"{path}: {reason_and_advice(error)}") from error


def is_disk_error(error: Exception) -> bool:
    """Whether the disk is full, or fails."""
    return isinstance(error, OSError) or _sqlite_name(error).startswith(("SQLITE_FULL", "SQLITE_IOERR"))


def reason_and_advice(error: Exception) -> str:
    """What `reason_of` says, and for an error of the disk what to do."""
    if _sqlite_name(error) == "SQLITE_FULL" or is_full(error):
        return FULL
    is_damaged = is_disk_error(error) and not isinstance(error, PermissionError)
    return reason_of(error) + ("; check the disk's space and health, then try again" if is_damaged else "")


def reason_of(error: Exception) -> str:
    """What SQLite, the system or a library says, on one line, without SQLAlchemy's additions."""
    cause = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0][:300]


def _sqlite_name(error: Exception) -> str:
    """SQLite's name of the error, as SQLITE_FULL; empty for others."""
    return getattr(getattr(error, "orig", None) or error, "sqlite_errorname", "")
