"""The MLflow store of a repository: its URI, its creation, its locks, and one-line errors when it can't be reached.

The store is `MLFLOW_TRACKING_URI` if that is set, else `mlflow.db` (SQLite) at the root of the original repository
(`plumage.common.project.project_root`), even when DVC runs an experiment in a copy. A SQLite store has its artifacts in
`mlartifacts/` beside the database. The registry is in the same store unless `MLFLOW_REGISTRY_URI` names another.
"""

import errno
import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.uri import get_uri_scheme
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from plumage.common.files import FULL
from plumage.common.paths import MLFLOW_ARTIFACTS, MLFLOW_DB
from plumage.common.text import shown
from plumage.errors import NoStoreError, TrackingError
from plumage.tracking import server
from plumage.tracking.artifacts import StoreArtifactRepository, sqlite_database
from plumage.tracking.database import database_file, prepare_database, reason_and_advice
from plumage.tracking.environment import check_values, hidden, store_uri
from plumage.tracking.locations import make_portable
from plumage.tracking.locks import Tags, exclusive

# As in `plumage.tracking`, if the program has imported MLflow first.
logging.getLogger("mlflow").setLevel((os.environ.get("MLFLOW_LOGGING_LEVEL") or "WARNING").upper())
logging.getLogger("mlflow.utils.git_utils").setLevel(logging.ERROR)  # `lineage_tags` says that Git is missing
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it prints the traceback of what it also raises
logging.getLogger("alembic").setLevel(logging.WARNING)

FULL_TEXTS = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "database or disk is full")
"""How the system and SQLite call a full disk; MLflow quotes them in its own errors."""
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
        TrackingError: `MLFLOW_TRACKING_URI` can't be read as a URI.
    """
    uri = store_uri("MLFLOW_TRACKING_URI") or f"sqlite:///{MLFLOW_DB}"
    return server.address(uri) if server.is_server(uri) else _at_root(uri, root)


def registry_uri(root: Path) -> str:
    """URI of the store of the registered models: `MLFLOW_REGISTRY_URI`, else that of the runs."""
    uri = store_uri("MLFLOW_REGISTRY_URI")
    return _at_root(uri, root) if uri and uri != store_uri("MLFLOW_TRACKING_URI") else tracking_uri(root)


def store_folder(root: Path) -> Path:
    """Folder with the store's artifacts: that of a SQLite database, else `root`."""
    database = sqlite_database(tracking_uri(root))
    return database.parent if database else root


def _at_root(uri: str, root: Path) -> str:
    """A relative SQLite URI made absolute; others as they are."""
    database = sqlite_database(uri)
    return sqlite_uri(root / database, sqlalchemy.make_url(uri).query) if database else uri


def sqlite_uri(database: Path, query: Mapping[str, Any] = MappingProxyType({})) -> str:
    """URI of a SQLite store, with any characters in its path.

    SQLAlchemy quotes some. MLflow makes the folder that it reads after `sqlite:///` without decoding it, as `j%C3%BCrgen`
    beside `jürgen`. It does not when the URI names the driver.
    """
    url = sqlalchemy.URL.create("sqlite", database=str(database), query=query)
    uri = url.render_as_string(hide_password=False)
    return uri if str(database) in uri else uri.replace("sqlite:", "sqlite+pysqlite:", 1)


def use_store(root: Path, create: bool = False) -> str:
    """Point MLflow at the store of the repository at `root` and return its URI.

    Raises:
        TrackingError: the store or the registry can't be reached, or is not MLflow's.
        NoStoreError: it does not exist yet, and `create` is not set.
    """
    check_values()
    uri, registry = tracking_uri(root), registry_uri(root)
    server.use_credentials(store_uri("MLFLOW_TRACKING_URI") or "")
    # As the entry point does in an installed Plumage: a checkout's code may run without being installed.
    repositories: dict[str, Any] = get_registered_artifact_repositories()
    repositories["file"] = StoreArtifactRepository
    with _opened(f"the MLflow store {uri}", uri, server.EXPERIMENTS, root, create):
        with hidden("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # MLflow sets both, also for the next repository
            mlflow.set_tracking_uri(uri)
            mlflow.set_registry_uri(registry)
        MlflowClient()  # creates the `Default` experiment if it is missing
        if database := sqlite_database(uri):
            make_portable(database)
    if registry != uri:
        with _opened(f"the registry {registry} in MLFLOW_REGISTRY_URI", registry, server.MODELS, root, create):
            MlflowClient().search_registered_models(max_results=1)
    return uri


@contextmanager
def _opened(what: str, uri: str, endpoint: str, root: Path, create: bool) -> Iterator[None]:
    """Make sure that a store, or a registry, is there and can be reached; hold its lock if it may be created."""
    if not create and (file := database_file(uri)) and not file.exists():
        if uri == tracking_uri(root) != registry_uri(root):
            takes = "MLFLOW_TRACKING_URI takes the store of the registry's runs"
            raise TrackingError(f"{file} does not exist yet, though MLFLOW_REGISTRY_URI is set; {takes}")
        raise NoStoreError(f"{file} does not exist yet; `dvc repro` makes it with the first run")
    with one_line_errors(what, ImportError, OSError):
        prepare_database(uri)
        _probe(uri, endpoint)
        with exclusive(uri) if create else nullcontext():
            yield


def connect(root: Path, experiment: str) -> str:
    """Point MLflow at the store of the repository at `root` and return the id of `experiment`.

    Creates the database and the experiment if they are missing, under a lock because experiments may start together.

    Raises:
        TrackingError: the store can't be reached, or the experiment was deleted.
    """
    uri = use_store(root, create=True)
    with one_line_errors(f"the MLflow store {uri}"), exclusive(uri):
        found = _experiment(
            experiment, None if server.is_server(uri) else (store_folder(root) / MLFLOW_ARTIFACTS).as_uri()
        )
        if database := sqlite_database(uri):
            make_portable(database)
    if found.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the MLflow experiment {experiment!r} was deleted; restore it with `mlflow experiments restore "
            f"--experiment-id {found.experiment_id}`, or name another in tracking.experiment"
        )
    return found.experiment_id


def _experiment(name: str, artifacts: str | None) -> Experiment:
    """The experiment `name`, which is created if it is missing. A server creates it once, whoever asks first."""
    client = MlflowClient()
    if (found := client.get_experiment_by_name(name)) is None:
        with ignoring_existing():
            client.create_experiment(name, artifact_location=artifacts)
        found = client.get_experiment_by_name(name)
    assert found is not None
    return found


@contextmanager
def ignoring_existing() -> Iterator[None]:
    """Ignore that another process has just created the same."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _probe(uri: str, endpoint: str) -> None:
    """Try to reach the store once. MLflow itself retries for minutes before it fails."""
    if server.is_server(uri):
        server.check_server(uri, endpoint)
    elif get_uri_scheme(uri) in DATABASE_ENGINES:
        engine = sqlalchemy.create_engine(uri)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()


def lock_runs(root: Path, experiment_id: str) -> AbstractContextManager[None]:
    """Hold the lock for restoring runs of an experiment in the store of the repository at `root`."""
    client = MlflowClient()
    tags = Tags(
        lambda: client.get_experiment(experiment_id).tags,
        lambda key, value: client.set_experiment_tag(experiment_id, key, value),
        lambda key: client.delete_experiment_tag(experiment_id, key),
    )
    return exclusive(tracking_uri(root), "runs", tags)


def lock_model(root: Path, name: str) -> AbstractContextManager[None]:
    """Hold the lock for changing the registered model `name`, which exists, in the registry of the repository at `root`."""
    client = MlflowClient()
    tags = Tags(
        lambda: client.get_registered_model(name).tags,
        lambda key, value: client.set_registered_model_tag(name, key, value),
        lambda key: client.delete_registered_model_tag(name, key),
    )
    return exclusive(registry_uri(root), "models", tags)


@contextmanager
def one_line_errors(what: str, *more: type[Exception]) -> Iterator[None]:
    """Turn STORE_ERRORS and `more` into a TrackingError of one line that starts with `what`."""
    try:
        yield
    except (*STORE_ERRORS, *more) as error:
        raise TrackingError(shown(f"{what}: {first_line(error)[:300]}")) from error


def is_full_disk(error: Exception) -> bool:
    """Whether a full disk is what the system, SQLite or MLflow reports."""
    return any(full in str(error) for full in FULL_TEXTS)


def first_line(error: Exception) -> str:
    """The first line of an error's text, without passwords; with the others where it only announces them.

    Of a database's error, which MLflow wraps, it is what the database says; of one about a full disk, that.
    """
    if is_full_disk(error):
        file = re.search(r"\[Errno \d+\].*'(.+)'", str(error))
        return shown(f"{file[1]}: {FULL}" if file else FULL)
    for database_error in (error, error.__cause__):
        if isinstance(database_error, DBAPIError):
            return shown(reason_and_advice(database_error))
    first, *others = (str(error).strip() or type(error).__name__).splitlines()
    return shown(" ".join([first, *others]) if first.endswith(":") else first)
