"""MLflow's pages over the repository's own store."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from mlflow import MlflowClient

from plumage.errors import TrackingError
from plumage.tracking.store import one_line_errors, tracking_uri, use_store

VIEW = "workflowType=machine_learning"
"""Without it MLflow opens its pages on language models, where an experiment's runs are hard to find."""


def serve_ui(root: Path, host: str, port: int) -> NoReturn:
    """Serve the UI of the repository at `root` until it is interrupted, and print where to look. Does not return.

    Raises:
        TrackingError: the store can't be reached or is a server with pages of its own, or the port is taken.
    """
    uri = tracking_uri(root)
    if uri.startswith("http"):
        raise TrackingError(f"MLFLOW_TRACKING_URI is a server: open {uri} in a browser")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TrackingError(
                f"{host}:{port} can't be listened on ({error.strerror}); take another with --port"
            ) from None
    pages = f"http://{host}:{port}/#"
    print("MLflow's pages, until Ctrl-C, in some seconds:")
    for name, number in _experiments(root).items():
        print(f"  runs of {name}: {pages}/experiments/{number}/runs?{VIEW}")
    print(f"  models: {pages}/models", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", (root / "mlartifacts").as_uri(), "--host", host, "--port", str(port)]
    command += ["--workers", "1"]  # each takes seconds to start, and there is one person looking
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    os.chdir(root)
    os.execve(sys.executable, command, environment)  # in this process's place, so that what ends it ends the server


def _experiments(root: Path) -> dict[str, str]:
    """Id by name of the experiments in the store, MLflow's empty `Default` aside."""
    use_store(root)
    with one_line_errors("the MLflow store"):
        found = MlflowClient().search_experiments()
    return {experiment.name: experiment.experiment_id for experiment in found if experiment.experiment_id != "0"}
