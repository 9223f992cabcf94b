"""The versions of a registered model."""

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion


def model_versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model, oldest first; none when there is no such model."""
    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found += page
        token = page.token or None
    return sorted(found, key=lambda version: int(version.version))
