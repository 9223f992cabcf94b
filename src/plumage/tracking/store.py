"""The MLflow store of a repository: its URI, its creation, its lock, and one-line errors when it can't be reached.

The store is `MLFLOW_TRACKING_URI` if that is set, else `mlflow.db` (SQLite) with artifacts in `mlartifacts/`. Both are at
the root of the original repository (`plumage.common.project.project_root`), even when DVC runs an experiment in a copy.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from plumage.common.paths import MLFLOW_ARTIFACTS, MLFLOW_DB
from plumage.errors import NoStoreError, TrackingError
from plumage.tracking.database import database_file, locked, prepare_database

logging.getLogger("mlflow").setLevel(os.environ.get("MLFLOW_LOGGING_LEVEL", "WARNING"))
logging.getLogger("mlflow.utils.git_utils").setLevel(logging.ERROR)  # `lineage_tags` says that Git is missing
logging.getLogger("alembic").setLevel(logging.WARNING)

PROBE_SECONDS = 10
STORE_ERRORS: tuple[type[Exception], ...] = (MlflowException, SQLAlchemyError, requests.RequestException)
"""What MLflow, its database and its server raise."""


def tracking_uri(root: Path) -> str:
    """URI of the store. A relative SQLite path in `MLFLOW_TRACKING_URI` is relative to `root`, as for `mlflow ui` there."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DB}"
    if not uri.startswith("sqlite:"):
        return uri
    url = sqlalchemy.make_url(uri)
    if url.database and url.database != ":memory:":
        url = url.set(database=str(root / url.database))
    return url.render_as_string(hide_password=False)


def use_store(root: Path, create: bool = False) -> str:
    """Point MLflow at the store of the repository at `root` and return its URI.

    Raises:
        TrackingError: the store can't be reached, or is not an MLflow store.
        NoStoreError: it does not exist yet, and `create` is not set.
    """
    uri = tracking_uri(root)
    if not create and (file := database_file(uri)) and not file.exists():
        raise NoStoreError(f"{file} does not exist yet; `dvc repro` makes it with the first run")
    with one_line_errors(f"the MLflow store {_without_password(uri)}", ImportError, OSError):
        prepare_database(uri)
        _probe(uri)
        with _environment_restored():
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(uri)
        with lock(root) if create else nullcontext():
            MlflowClient()  # creates the `Default` experiment if it is missing
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
    uri = use_store(root, create=True)
    with one_line_errors(f"the MLflow store {_without_password(uri)}"), lock(root):
        client = MlflowClient()
        found = client.get_experiment_by_name(experiment)
        if found is None:
            artifacts = None if uri.startswith("http") else (root / MLFLOW_ARTIFACTS).as_uri()
            return client.create_experiment(experiment, artifact_location=artifacts)
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
        url = sqlalchemy.make_url(uri)
        engine = sqlalchemy.create_engine(url)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the repository's MLflow lock, so that only one process at a time checks for something and creates it.

    Reentrant.
    """
    with locked(root / MLFLOW_DB):
        yield


@contextmanager
def one_line_errors(what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn STORE_ERRORS and `more` into a TrackingError of one line that starts with `what`."""
    try:
        yield
    except (*STORE_ERRORS, *more) as error:
        first, *others = (str(error).strip() or type(error).__name__).splitlines()
        reason = " ".join([first, *others]) if first.endswith(":") else first  # SQLAlchemy's others are the statement
        raise TrackingError(f"{what}: {reason[:300]}") from error


def _without_password(uri: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)
