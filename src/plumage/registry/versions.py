"""The versions of a registered model: list them, find one by its URI, fetch its files."""

import re
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from plumage.errors import TrackingError
from plumage.tracking.store import one_line_errors, use_store

CHALLENGER, CHAMPION = "challenger", "champion"
"""The aliases of the newest version and of the version to use."""


def model_versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model, oldest first; an empty list when there is no such model."""
    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found += page
        token = page.token or None
    return sorted(found, key=lambda version: int(version.version))


def find_version(uri: str, root: Path) -> ModelVersion:
    """Find the version `models:/NAME@ALIAS` or `models:/NAME/3` in the store of the repository at `root`.

    Raises:
        TrackingError: the registry can't be reached or has no such model, alias or version.
    """
    match = re.fullmatch(r"models:/([^/@']+)(?:@([^/@]+)|/(\d+))", uri)
    if match is None:
        raise TrackingError(f"{uri}: takes models:/NAME@ALIAS or models:/NAME/VERSION, as models:/bird-classifier/3")
    name, alias, number = match.groups()
    use_store(root)
    client = MlflowClient()
    with one_line_errors(uri):
        versions = model_versions(client, name)
        if not versions:
            names = sorted(model.name for model in client.search_registered_models())
            raise TrackingError(f"{uri}: no such registered model; there are {', '.join(names) or 'none'}")
        aliases: dict[str, str] = client.get_registered_model(name).aliases
        wanted = number or aliases.get(alias)
        version = next((found for found in versions if str(found.version) == str(wanted)), None)
        if version is None:
            known = [*(f"@{known}" for known in aliases), *(f"/{found.version}" for found in versions)]
            raise TrackingError(f"{uri}: no such version; of {name} there are {', '.join(known)}")
        return client.get_model_version(name, version.version)  # a search leaves the aliases out


def fetch_model(uri: str, root: Path, folder: Path) -> Path:
    """Download weights and description of `models:/NAME@ALIAS` or `models:/NAME/3` below `folder`; return their folder.

    Raises:
        TrackingError: the registry can't be reached or has no such model, alias or version.
    """
    version = find_version(uri, root)
    with one_line_errors(uri, OSError):
        return download_artifacts(version, folder)


def download_artifacts(version: ModelVersion, folder: Path) -> Path:
    """Download a version's artifacts (weights and description among them, no code) to a folder below `folder`."""
    uri = f"models:/{version.name}/{version.version}/artifacts"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
