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

    An absolute one of an earlier version, in a store that Plumage has not yet changed or that is read-only, is taken as it is
    unless the store was moved or copied from there; see `_place_of_moved`.
    """

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        path = Path(self._artifact_dir)
        if not path.is_absolute():
            self._artifact_dir = str(_folder_of_store(tracking_uri) / path)
        elif MLFLOW_ARTIFACTS.name in path.parts:
            self._artifact_dir = str(_place_of_moved(path, tracking_uri))

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


def _place_of_moved(path: Path, tracking_uri: str | None) -> Path:
    """Where artifacts are that were at `path`: beside the store if it was moved or copied from there, else there.

    It was if the former folder is gone or has a database of the same name, or if only the artifacts here are left.
    """
    root = path
    while root.name != MLFLOW_ARTIFACTS.name:
        root = root.parent
    root, database = root.parent, _database(tracking_uri)
    here = _folder_of_store(tracking_uri) / path.relative_to(root)
    moved = database and (not root.exists() or (root / database.name).exists())
    return here if moved or (here.exists() and not path.exists()) else path


def _database(tracking_uri: str | None) -> Path | None:
    return sqlite_database(tracking_uri or os.environ.get(SERVER_STORE) or mlflow.get_tracking_uri())


def _folder_of_store(tracking_uri: str | None) -> Path:
    """Folder of the SQLite database, else the repository in which DVC runs this stage, else the working directory."""
    database = _database(tracking_uri)
    return (database.parent if database else Path(os.environ.get("DVC_ROOT", ""))).absolute()
