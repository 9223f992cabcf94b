"""MLflow settings from outside Plumage: `MLFLOW_*` variables, and what earlier code in the process has switched on.

Settings of the connection and the store pass through. Those that would redirect a run, or lose what is logged to it, are
switched off while one is open: where it goes is decided by params.yaml and by the training in models/.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import mlflow
import sqlalchemy
from mlflow import environment_variables
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking.context.git_context import GitRunContext
from mlflow.tracking.context.registry import _run_context_provider_registry
from mlflow.utils.autologging_utils import disable_autologging
from mlflow.utils.uri import get_uri_scheme

from plumage.common.redaction import redacted
from plumage.errors import TrackingError
from plumage.tracking.server import is_server

REDIRECTING = (
    "MLFLOW_RUN_ID",  # a new run would be that one
    "MLFLOW_EXPERIMENT_ID",  # params.yaml names the experiment
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_ACTIVE_MODEL_ID",  # metrics would belong to that model; MLflow refuses them if the store lacks it
    "_MLFLOW_ACTIVE_MODEL_ID",
    "MLFLOW_ENABLE_ASYNC_LOGGING",  # a failed write would go unnoticed
)


class GitTags(GitRunContext):
    """MLflow's tags about Git for runs and models. MLflow itself leaves a token in some addresses of the remote."""

    def tags(self) -> dict[str, str]:
        """The tags, without secrets."""
        return {name: redacted(value) for name, value in super().tags().items()}


_run_context_provider_registry.register(GitTags)  # a later one overrides the earlier, MLflow's own


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Remove these environment variables, and restore them as they were, whatever is set meanwhile."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ |= before


@contextmanager
def undisturbed() -> Iterator[None]:
    """Log without REDIRECTING variables, an active model or autologging, as a sitecustomize.py may set them up."""
    with hidden(*REDIRECTING), disable_autologging():
        mlflow.clear_active_model()
        yield


def check_values() -> None:
    """Check every `MLFLOW_*` variable that is set. MLflow itself only reads one when it needs it.

    Raises:
        TrackingError: a number or a switch has another value.
    """
    for variable in vars(environment_variables).values():
        if getattr(variable, "defined", False) is True:  # the classes of variables are there, too
            try:
                variable.get()
            except ValueError as error:
                raise TrackingError(f"environment: {error}") from None


def store_uri(name: str) -> str | None:
    """The URI of a store in the environment variable `name`; None if it is not set.

    Raises:
        TrackingError: it can't be read as a URI.
    """
    uri = os.environ.get(name, "").strip()
    try:
        if is_server(uri):
            urlsplit(uri).port  # noqa: B018  # raises
        elif get_uri_scheme(uri) in DATABASE_ENGINES:
            sqlalchemy.make_url(uri)
    except (ValueError, MlflowException, sqlalchemy.exc.ArgumentError):
        takes = "takes http(s)://HOST, sqlite:///FILE, or another database's URI"
        raise TrackingError(f"{name}: {redacted(uri)} is not a store; {takes}") from None
    return uri or None
