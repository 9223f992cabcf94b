"""MLflow's UI answers at the printed address, and stops with the command."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from mlflow_servers import free_port, wait_for

from plumage.errors import TrackingError
from plumage.tracking.store import connect
from plumage.tracking.ui import serve_ui


def test_a_taken_port_and_a_store_with_its_own_ui_are_errors(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(TrackingError, match="choose another port with --port"):
            serve_ui(root, "127.0.0.1", other.getsockname()[1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"open http://127\.0\.0\.1:9 in a browser"):
        serve_ui(root, "127.0.0.1", free_port())


@pytest.mark.slow
def test_the_printed_address_answers_until_the_command_stops(root: Path) -> None:
    experiment, port = connect(root, "plumage"), free_port()
    code = (
        f"from pathlib import Path; from plumage.tracking.ui import serve_ui; serve_ui(Path.cwd(), '127.0.0.1', {port})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MLFLOW_STATIC_PREFIX": "/of-another-server"}
    command = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert command.stdout is not None
    try:
        printed = [command.stdout.readline() for _ in range(3)]
        assert (
            f"runs of plumage: http://127.0.0.1:{port}/#/experiments/{experiment}/runs?viewStateShareKey=plumage"
            in printed[1]
        )
        page = wait_for(f"http://127.0.0.1:{port}")
        assert b"MLflow" in page
    finally:
        command.send_signal(signal.SIGTERM)
        command.wait(timeout=60)
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5)
