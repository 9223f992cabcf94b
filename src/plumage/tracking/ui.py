"""MLflow's UI for the repository's store."""

import json
import os
import socket
import sys
import warnings
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvicorn
from mlflow import MlflowClient

from plumage.common.paths import MLFLOW_ARTIFACTS
from plumage.common.text import shown
from plumage.errors import TrackingError
from plumage.tracking.alive import recover
from plumage.tracking.pages import prepare_pages
from plumage.tracking.saved_view import MODELS_PATH, view_path
from plumage.tracking.server import is_server
from plumage.tracking.store import one_line_errors, registry_uri, store_folder, tracking_uri, use_store

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response, StreamingResponse

OTHER_SERVERS = (
    "_MLFLOW_STATIC_PREFIX",
    "_MLFLOW_SERVER_ARTIFACTS_ONLY",
    "_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE",
    "prometheus_multiproc_dir",
)
"""What another MLflow server may have left in the environment: it would move or empty this UI."""
SETTINGS = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
    "_mlflow_model_registry_promo_modal_dismissed_v1": True,
}
"""What MLflow keeps in a browser, of one that has chosen the navigation for model training and closed the panel and the dialog that
greet a new one."""


def serve_ui(root: Path, host: str, port: int) -> None:
    """Print the UI's addresses, open the first in a browser, and serve it for the repository at `root` until interrupted.

    MLflow's application runs in this process: `mlflow server` would import everything twice more before it answers.

    Raises:
        TrackingError: the store can't be reached or is a server with its own UI, or the port is taken.
    """
    uri = tracking_uri(root)
    if is_server(uri):
        raise TrackingError(f"MLFLOW_TRACKING_URI is a server: open {uri} in a browser")
    _check_port(host, port)
    addresses = {
        name: f"http://{host}:{port}/{view_path(experiment)}" for name, experiment in _experiments(root).items()
    }
    print("MLflow's UI opens here in a few seconds; Ctrl-C stops it:")
    for name, address in addresses.items():
        print(f"  runs of {shown(name)}: {address}")
    print(f"  models: http://{host}:{port}/{MODELS_PATH}", flush=True)
    os.chdir(store_folder(root))  # where MLflow looks for artifacts, also if Plumage is not installed
    _set_up_application(root, uri)
    config = uvicorn.Config(_application(), host, port, log_level="warning")
    with suppress(KeyboardInterrupt):
        _Server(config, lambda: _open_browser(next(iter(addresses.values()), None))).run()


class _Server(uvicorn.Server):
    """Calls `when_ready` once requests are answered."""

    def __init__(self, config: uvicorn.Config, when_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_ready = when_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._when_ready()


def _check_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"can't listen on {host}:{port} ({error.strerror})"
            raise TrackingError(f"{reason}; choose another port with --port") from None


def _set_up_application(root: Path, uri: str) -> None:
    """Tell MLflow's application about the store, as `mlflow server` does for its workers."""
    for name in OTHER_SERVERS:
        os.environ.pop(name, None)
    warnings.simplefilter("ignore")  # of the application's libraries
    from mlflow.server import constants  # makes the application, so the environment has to be settled

    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: uri,
        constants.REGISTRY_STORE_URI_ENV_VAR: registry_uri(root),
        constants.ARTIFACT_ROOT_ENV_VAR: (store_folder(root) / MLFLOW_ARTIFACTS).as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _application() -> "FastAPI":
    """MLflow's application; in a browser that has not been there, its pages start with SETTINGS."""
    from mlflow.server.fastapi_app import app
    from starlette.responses import Response

    known = "".join(
        f"localStorage.getItem({json.dumps(key)}) ?? localStorage.setItem({json.dumps(key)}, {json.dumps(json.dumps(value))});"
        for key, value in SETTINGS.items()
    )

    @app.middleware("http")
    async def with_settings(
        request: "Request", answer: "Callable[[Request], Awaitable[StreamingResponse]]"
    ) -> "Response":
        response = await answer(request)
        if request.url.path.strip("/") or response.status_code != 200:
            return response
        page = b"".join([part async for part in cast(AsyncIterator[bytes], response.body_iterator)])
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return Response(page.replace(b"<head>", f"<head><script>{known}</script>".encode(), 1), headers=headers)

    return app


def _open_browser(address: str | None) -> None:
    """Open a graphical browser, if this is a terminal on a machine with a screen."""
    has_screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if address and has_screen and sys.stdout.isatty():
        webbrowser.open(address)


def _experiments(root: Path) -> dict[str, str]:
    """Id by name of the store's experiments, without MLflow's empty `Default`."""
    use_store(root)
    recover(root)
    with one_line_errors("the MLflow store"):
        client = MlflowClient()
        found = {each.name: each.experiment_id for each in client.search_experiments() if each.experiment_id != "0"}
        for experiment_id in found.values():
            prepare_pages(client, experiment_id)
    return found
