"""MLflow's pages over the repository's own store."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from plumage.errors import TrackingError
from plumage.tracking.store import tracking_uri


def serve_ui(root: Path, host: str, port: int) -> NoReturn:
    """Serve the UI of the repository at `root` until it is interrupted. Does not return.

    Raises:
        TrackingError: the store is a server with pages of its own, or the port is taken.
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
    print(f"MLflow's pages are at http://{host}:{port} (Ctrl-C ends)", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--default-artifact-root", (root / "mlartifacts").as_uri(), "--host", host, "--port", str(port)]
    command += ["--workers", "1"]  # each takes seconds to start, and there is one person looking
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    os.chdir(root)
    os.execve(sys.executable, command, environment)  # in this process's place, so that what ends it ends the server
