"""The MLflow store of a repository: its URI, its creation, its lock, and one-line errors when it can't be reached.

The store is `MLFLOW_TRACKING_URI` if that is set, else `mlflow.db` (SQLite) with artifacts in `mlartifacts/`. Both are at
the root of the original repository (`plumage.common.paths.project_root`), even when DVC runs an experiment in a copy.
The registry is in the same store unless `MLFLOW_REGISTRY_URI` names another.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.uri import get_uri_scheme
from sqlalchemy.exc import SQLAlchemyError

from plumage.common.paths import MLFLOW_ARTIFACTS, MLFLOW_DB
from plumage.errors import TrackingError
from plumage.tracking import server
from plumage.tracking.environment import check_values, hidden, store_uri

logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())  # if it was imported before Plumage
logging.getLogger("alembic").setLevel(logging.WARNING)

LOCK_SECONDS = 600
STORE_ERRORS: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError, requests.RequestException)
"""What MLflow, its database and its server raise."""


def tracking_uri(root: Path) -> str:
    """URI of the store. A relative SQLite path in `MLFLOW_TRACKING_URI` is relative to `root`, as for `mlflow ui` there."""
    uri = store_uri("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DB}"
    return server.address(uri) if server.is_server(uri) else _at_root(uri, root)


def registry_uri(root: Path) -> str:
    """URI of the store of the registered models: `MLFLOW_REGISTRY_URI`, else that of the runs."""
    uri = store_uri("MLFLOW_REGISTRY_URI")
    return _at_root(uri, root) if uri and uri != store_uri("MLFLOW_TRACKING_URI") else tracking_uri(root)


def _at_root(uri: str, root: Path) -> str:
    """A relative SQLite URI made absolute; others as they are."""
    if not uri.startswith("sqlite:"):
        return uri
    url = sqlalchemy.make_url(uri)
    if url.database and url.database != ":memory:":
        url = url.set(database=str(root / url.database))
    return url.render_as_string(hide_password=False)


def use_store(root: Path) -> str:
    """Point MLflow at the store of the repository at `root` and return its URI.

    Raises:
        TrackingError: the store can't be reached, or is not an MLflow store.
    """
    check_values()
    uri, registry = tracking_uri(root), registry_uri(root)
    server.use_credentials(store_uri("MLFLOW_TRACKING_URI") or "")
    with one_line_errors(f"the MLflow store {uri}", ImportError, OSError):
        _probe(uri, server.EXPERIMENTS)
        with hidden("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # MLflow sets both, also for the next repository
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(registry)
        with lock(root):
            MlflowClient()  # creates the database if it is missing
    if registry != uri:
        with one_line_errors(f"the registry {registry} in MLFLOW_REGISTRY_URI", ImportError, OSError), lock(root):
            _probe(registry, server.MODELS)
            MlflowClient().search_registered_models(max_results=1)
    return uri


def connect(root: Path, experiment: str) -> str:
    """Point MLflow at the store of the repository at `root` and return the id of `experiment`.

    Creates the database and the experiment if they are missing, under a lock because experiments may start together.

    Raises:
        TrackingError: the store can't be reached, or the experiment was deleted.
    """
    uri = use_store(root)
    with one_line_errors(f"the MLflow store {uri}"), lock(root):
        client = MlflowClient()
        found = client.get_experiment_by_name(experiment)
        if found is None:
            artifacts = None if server.is_server(uri) else (root / MLFLOW_ARTIFACTS).as_uri()
            return client.create_experiment(experiment, artifact_location=artifacts)
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {experiment!r} was deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or name another in tracking.experiment"
        )
    return found.experiment_id


def _probe(uri: str, endpoint: str) -> None:
    """Try to reach the store once. MLflow itself retries for minutes before it fails."""
    if server.is_server(uri):
        server.check_server(uri, endpoint)
    elif get_uri_scheme(uri) in DATABASE_ENGINES:
        url = sqlalchemy.make_url(uri)
        if url.drivername == "sqlite" and url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sqlalchemy.create_engine(url)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the repository's MLflow lock, so that only one process at a time checks for something and creates it.

    Reentrant.
    """
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
        raise TrackingError(server.redacted(f"{what}: {first_line(error)[:300]}")) from error


def first_line(error: Exception) -> str:
    """The first line of an error's text, without passwords."""
    return server.redacted((str(error).strip() or type(error).__name__).splitlines()[0])
