"""The MLflow store of a repository: where it is, made once, reached or refused in one line.

The store is `MLFLOW_TRACKING_URI` when that is set, else `mlflow.db` (SQLite) with the files in `mlartifacts/`, both at
the root of the real repository (`plumage.common.paths.project_root`), also for an experiment that DVC runs in a copy.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from plumage.errors import TrackingError

logging.getLogger("mlflow").setLevel(os.environ.get("MLFLOW_LOGGING_LEVEL", "WARNING"))
logging.getLogger("alembic").setLevel(logging.WARNING)

PROBE_SECONDS = 10
LOCK_SECONDS = 600


def tracking_uri(root: Path) -> str:
    """The store's URI. A relative SQLite path in `MLFLOW_TRACKING_URI` starts from `root`, as for `mlflow ui` there."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    if not uri.startswith("sqlite:"):
        return uri
    url = sqlalchemy.make_url(uri)
    if url.database and url.database != ":memory:":
        url = url.set(database=str(root / url.database))
    return url.render_as_string(hide_password=False)


def use_store(root: Path) -> str:
    """Point MLflow at the store of the repository at `root`, and return its URI.

    Raises:
        TrackingError: the store can't be reached, or is no MLflow store.
    """
    uri = tracking_uri(root)
    with one_line_errors(f"the MLflow store {_without_password(uri)}", ImportError, OSError):
        _probe(uri)
        with _environment_as_it_was():
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
        with lock(root):
            MlflowClient()  # makes the database where there is none
    return uri


@contextmanager
def _environment_as_it_was() -> Iterator[None]:
    """Undo what MLflow sets there: it would be the user's choice for the next repository that this process uses."""
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

    The database and the experiment are made where missing, under a lock: several experiments may start at once.

    Raises:
        TrackingError: the store can't be reached, or the experiment was deleted.
    """
    uri = use_store(root)
    with one_line_errors(f"the MLflow store {_without_password(uri)}"), lock(root):
        client = MlflowClient()
        found = client.get_experiment_by_name(experiment)
        if found is None:
            files = None if uri.startswith("http") else (root / "mlartifacts").as_uri()
            return client.create_experiment(experiment, artifact_location=files)
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {experiment!r} is deleted: restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or name another in tracking.experiment"
        )
    return found.experiment_id


def _probe(uri: str) -> None:
    """Try the store once. MLflow itself would try for minutes before it says that there is none."""
    if uri.startswith("http"):
        requests.get(uri, timeout=PROBE_SECONDS)
    elif "://" in uri and not uri.startswith("file:"):
        url = sqlalchemy.make_url(uri)
        if url.drivername == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sqlalchemy.create_engine(url)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the repository's MLflow lock: what looks first and creates then happens in one process at a time.

    Held again within itself it does not block.
    """
    try:
        with filelock.FileLock(root / "mlflow.db.lock", timeout=LOCK_SECONDS, is_singleton=True):
            yield
    except filelock.Timeout as error:
        held = f"{error.lock_file}: held by another process for {LOCK_SECONDS} s; is one stuck?"
        raise TrackingError(held) from error


@contextmanager
def one_line_errors(what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn what MLflow, its database and its server raise, and `more`, into a TrackingError that starts with `what`."""
    kinds: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError, requests.RequestException, *more)
    try:
        yield
    except kinds as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise TrackingError(f"{what}: {reason}") from error


def _without_password(uri: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)
