"""The MLflow store of a repository: its URI, its creation, its lock, and one-line errors when it can't be reached.

The store is `MLFLOW_TRACKING_URI` if that is set, else `mlflow.db` (SQLite) at the root of the original repository
(`plumage.common.paths.project_root`), even when DVC runs an experiment in a copy. A SQLite store has its artifacts in
`mlartifacts/` beside the database.
"""

import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import filelock
import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from sqlalchemy.exc import SQLAlchemyError

from plumage.common.paths import MLFLOW_ARTIFACTS, MLFLOW_DB
from plumage.errors import TrackingError
from plumage.tracking.artifacts import StoreArtifactRepository, sqlite_database
from plumage.tracking.locations import make_portable

logging.getLogger("mlflow").setLevel(os.environ.get("MLFLOW_LOGGING_LEVEL", "WARNING"))
logging.getLogger("alembic").setLevel(logging.WARNING)

PROBE_SECONDS = 10
LOCK_SECONDS = 600
STORE_ERRORS: tuple[type[Exception], ...] = (
    MlflowException,
    SQLAlchemyError,
    sqlite3.Error,
    requests.RequestException,
)
"""What MLflow, its database and its server raise."""


def tracking_uri(root: Path) -> str:
    """URI of the store. A relative SQLite path in `MLFLOW_TRACKING_URI` is relative to `root`, as for `mlflow ui` there.

    Raises:
        TrackingError: `MLFLOW_TRACKING_URI` is no URI.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DB}"
    with one_line_errors(f"MLFLOW_TRACKING_URI={_without_password(uri)}"):
        database = sqlite_database(uri)
        return sqlite_uri(root / database, sqlalchemy.make_url(uri).query) if database else uri


def store_folder(root: Path) -> Path:
    """Folder with the store's artifacts: that of a SQLite database, else `root`."""
    database = sqlite_database(tracking_uri(root))
    return database.parent if database else root


def sqlite_uri(database: Path, query: Mapping[str, Any] = MappingProxyType({})) -> str:
    """URI of a SQLite store, with any characters in its path.

    SQLAlchemy quotes some. MLflow makes the folder that it reads after `sqlite:///` without decoding it, as `j%C3%BCrgen`
    beside `jürgen`. It does not when the URI names the driver.
    """
    url = sqlalchemy.URL.create("sqlite", database=str(database), query=query)
    uri = url.render_as_string(hide_password=False)
    return uri if str(database) in uri else uri.replace("sqlite:", "sqlite+pysqlite:", 1)


def use_store(root: Path) -> str:
    """Point MLflow at the store of the repository at `root` and return its URI.

    Raises:
        TrackingError: the store can't be reached, or is not an MLflow store.
    """
    uri = tracking_uri(root)
    # As the entry point does in an installed Plumage: a checkout's code may run without being installed.
    repositories: dict[str, Any] = get_registered_artifact_repositories()
    repositories["file"] = StoreArtifactRepository
    with one_line_errors(f"the MLflow store {_without_password(uri)}", ImportError, OSError):
        _probe(uri)
        with _environment_restored():
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
        with lock(root):
            MlflowClient()  # creates the database if it is missing
            if database := sqlite_database(uri):
                make_portable(database)
    return uri


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Undo MLflow's changes to the environment. Left there, they would redirect the next repository in this process."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ[name] for name in names if name in os.environ}
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ |= before


def connect(root: Path, experiment: str) -> str:
    """Point MLflow at the store of the repository at `root` and return the id of `experiment`.

    Creates the database and the experiment if they are missing, under a lock because experiments may start together.

    Raises:
        TrackingError: the store can't be reached, or the experiment was deleted.
    """
    uri = use_store(root)
    with one_line_errors(f"the MLflow store {_without_password(uri)}"), lock(root):
        client = MlflowClient()
        found = client.get_experiment_by_name(experiment)
        if found is None:
            location = None if uri.startswith("http") else (store_folder(root) / MLFLOW_ARTIFACTS).as_uri()
            created = client.create_experiment(experiment, artifact_location=location)
            if database := sqlite_database(uri):
                make_portable(database)
            return created
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {experiment!r} was deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or name another in tracking.experiment"
        )
    return found.experiment_id


def _probe(uri: str) -> None:
    """Try to reach the store once. MLflow itself retries for minutes before it fails."""
    if uri.startswith("http"):
        requests.get(uri, timeout=PROBE_SECONDS)
    elif "://" in uri and not uri.startswith("file:"):
        if database := sqlite_database(uri):
            database.parent.mkdir(parents=True, exist_ok=True)
        engine = sqlalchemy.create_engine(uri)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the repository's MLflow lock, so that only one process at a time checks for something and creates it.

    Reentrant. A repository on a read-only disk needs none: nothing can be created there.
    """
    if not os.access(root, os.W_OK):
        yield
        return
    try:
        with filelock.FileLock(root / f"{MLFLOW_DB}.lock", timeout=LOCK_SECONDS, is_singleton=True):
            yield
    except filelock.Timeout as error:
        raise TrackingError(
            f"{error.lock_file}: another process has held this lock for {LOCK_SECONDS} s; check whether it is stuck"
        ) from error


@contextmanager
def one_line_errors(what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn STORE_ERRORS and `more` into a TrackingError of one line that starts with `what`."""
    try:
        yield
    except (*STORE_ERRORS, *more) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise TrackingError(f"{what}: {reason}") from error


def _without_password(uri: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)
