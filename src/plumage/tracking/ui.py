"""MLflow's UI for the repository's store."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from mlflow import MlflowClient

from plumage.common.paths import MLFLOW_ARTIFACTS
from plumage.common.text import shown
from plumage.common.variables import environment_variables
from plumage.errors import TrackingError
from plumage.tracking.alive import recover
from plumage.tracking.server import is_server
from plumage.tracking.store import one_line_errors, registry_uri, store_folder, tracking_uri, use_store

OTHER_SERVERS = ("MLFLOW_STATIC_PREFIX", "MLFLOW_ARTIFACTS_ONLY", "MLFLOW_READ_REPLICA_BACKEND_STORE_URI")
"""Options of `mlflow server` that would move or empty this UI."""
VIEW = "workflowType=machine_learning"
"""Without this query MLflow opens its generative AI view, where runs are hard to find."""


def serve_ui(root: Path, host: str, port: int) -> NoReturn:
    """Print the UI's addresses and serve it for the repository at `root` until interrupted. Does not return.

    Raises:
        TrackingError: the store can't be reached or is a server with its own UI, or the port is taken.
    """
    uri = tracking_uri(root)
    if is_server(uri):
        raise TrackingError(f"MLFLOW_TRACKING_URI is a server: open {uri} in a browser")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"can't listen on {host}:{port} ({error.strerror})"
            raise TrackingError(f"{reason}; choose another port with --port") from None
    ui = f"http://{host}:{port}/#"
    experiments = _experiments(root)
    print("MLflow's UI opens here in a few seconds; Ctrl-C stops it:")
    for name, experiment_id in experiments.items():
        print(f"  runs of {shown(name)}: {ui}/experiments/{experiment_id}/runs?{VIEW}")
    print(f"  models: {ui}/models", flush=True)
    command = [sys.executable, "-m", "mlflow", "server"]
    folder = store_folder(root)
    command += ["--default-artifact-root", (folder / MLFLOW_ARTIFACTS).as_uri(), "--host", host, "--port", str(port)]
    command += ["--workers", "1"]  # each takes seconds to start, and there is one user
    environment = {name: value for name, value in environment_variables().items() if name not in OTHER_SERVERS} | {
        "MLFLOW_BACKEND_STORE_URI": uri,  # may hold a password, which everyone on the machine would see in an argument
        "MLFLOW_REGISTRY_STORE_URI": registry_uri(root),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",
    }
    os.chdir(folder)  # where MLflow looks for artifacts, also if Plumage is not installed
    os.execve(sys.executable, command, environment)  # replaces this process, so that a signal to it stops the server


def _experiments(root: Path) -> dict[str, str]:
    """Id by name of the store's experiments, without MLflow's empty `Default`."""
    use_store(root)
    recover(root)
    with one_line_errors("the MLflow store"):
        found = MlflowClient().search_experiments()
    return {experiment.name: experiment.experiment_id for experiment in found if experiment.experiment_id != "0"}
