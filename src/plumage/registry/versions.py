"""The versions of a registered model: list them, find one by its URI, fetch its files."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from plumage.common.files import parse_json
from plumage.errors import ModelError, NoStoreError, TrackingError
from plumage.models.description import DESCRIPTION_FILE, WEIGHTS_FILE
from plumage.registry.served_model import find_changed_file
from plumage.tracking import tags
from plumage.tracking.store import one_line_errors, use_store

log = logging.getLogger(__name__)
MODEL_FILES = frozenset((WEIGHTS_FILE, DESCRIPTION_FILE))


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
    try:
        use_store(root)
    except NoStoreError as error:
        raise TrackingError(f"{uri}: no such registered model; {error}") from None
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


def recorded_hashes(version: ModelVersion, names: Iterable[str] = MODEL_FILES) -> dict[str, str]:
    """The SHA-256 of those of the version's files `names` for which its tags have one, sorted by name."""
    known = all_hashes(version)
    return {name: known[name] for name in sorted(names) if name in known}


def all_hashes(version: ModelVersion) -> dict[str, str]:
    """The SHA-256 of each of the version's files that its tags have, by its name.

    Raises:
        TrackingError: the tag with them is damaged.
    """
    single = {
        key.removeprefix(tags.SHA256): digest for key, digest in version.tags.items() if key.startswith(tags.SHA256)
    }
    try:
        together = parse_json(version.tags.get(tags.HASHES, "{}"))
        return single | {str(name): str(digest) for name, digest in together.items()}
    except (ValueError, AttributeError):
        where = f"models:/{version.name}/{version.version}"
        raise TrackingError(f"{where}: its tag {tags.HASHES} is damaged, so its files can't be checked") from None


def check_files(version: ModelVersion, folder: Path, names: Iterable[str] = MODEL_FILES) -> None:
    """Raise a ModelError if one of the version's files `names`, fetched into `folder`, is not as its tags say, or is missing."""
    if problem := find_changed_file(folder, recorded_hashes(version, names)):
        raise ModelError(f"models:/{version.name}/{version.version}: {problem}")


def fetch_model(uri: str, root: Path, folder: Path) -> Path:
    """Download weights and description of `models:/NAME@ALIAS` or `models:/NAME/3` below `folder`; return their folder.

    Raises:
        TrackingError: the registry can't be reached or has no such model, alias or version.
        ModelError: a file is not the one that was registered.
    """
    version = find_version(uri, root)
    with one_line_errors(uri, OSError):
        return download_artifacts(version, folder)


def download_artifacts(version: ModelVersion, folder: Path) -> Path:
    """Download a version's artifacts (weights and description among them, no code) to a folder below `folder`.

    Raises:
        ModelError: weights or description don't have the SHA-256 in the version's tags.
    """
    uri = f"models:/{version.name}/{version.version}"
    downloaded = Path(mlflow.artifacts.download_artifacts(f"{uri}/artifacts", dst_path=str(folder)))
    for name in MODEL_FILES - recorded_hashes(version).keys():  # somebody else registered it
        log.warning("%s: its tags lack the SHA-256 of %s, so it is not checked", uri, name)
    check_files(version, downloaded)
    return downloaded
