"""Artifacts beside their store: MLflow's local artifacts, found from any working directory.

A SQLite store holds relative locations (`file:mlartifacts/...`), so that it can be moved and copied with its artifacts.
MLflow resolves one against the working directory. `StoreArtifactRepository` takes the database's folder instead. MLflow
imports this module in every program, through an entry point in pyproject.toml, so it imports little.
"""

import os
import shutil
from pathlib import Path
from urllib.parse import unquote

import mlflow
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from plumage.common.paths import MLFLOW_ARTIFACTS

SERVER_STORE = "_MLFLOW_SERVER_FILE_STORE"
"""Where `mlflow server` passes its store to its worker processes, whose tracking URI is another."""


class StoreArtifactRepository(LocalArtifactRepository):
    """MLflow's local artifacts. A relative location starts at the folder of the store; see `_folder_of_store`.

    An absolute one is taken as it is, unless it is gone and its artifacts are beside the store: one on a read-only disk
    keeps the locations of an earlier version.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        path = Path(self._artifact_dir)
        if not path.is_absolute():
            self._artifact_dir = str(_folder_of_store(tracking_uri) / path)
        elif MLFLOW_ARTIFACTS.name in path.parts and not path.exists():
            below = self._artifact_dir.rpartition(f"/{MLFLOW_ARTIFACTS}/")[2]
            here = _folder_of_store(tracking_uri) / MLFLOW_ARTIFACTS / below
            self._artifact_dir = str(here if here.exists() else path)

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Copy to `dst_path`; without it, return the path in the store.

        Loading a model, MLflow writes to that path, and decodes `%20` in it. Where that can't be, it gets a temporary copy.
        """
        folder = self._artifact_dir
        if dst_path is None and (unquote(folder) != folder or not os.access(folder, os.W_OK)):
            return str(ArtifactRepository.download_artifacts(self, artifact_path, dst_path))
        return str(super().download_artifacts(artifact_path, dst_path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or a folder. MLflow's own method decodes `%20` in the path and deletes elsewhere."""
        path = Path(self._artifact_dir, artifact_path or "")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def sqlite_database(uri: str) -> Path | None:
    """Path of the database file that a URI names; None for another store and one in memory."""
    if not uri.startswith("sqlite"):
        return None
    import sqlalchemy  # slow to import, and this module is in every MLflow program

    database = sqlalchemy.make_url(uri).database
    return None if not database or database.startswith((":memory:", "file:")) else Path(database)


def _folder_of_store(tracking_uri: str | None) -> Path:
    """Folder of the SQLite database, else the repository in which DVC runs this stage, else the working directory."""
    database = sqlite_database(tracking_uri or os.environ.get(SERVER_STORE) or mlflow.get_tracking_uri())
    return (database.parent if database else Path(os.environ.get("DVC_ROOT", ""))).absolute()
