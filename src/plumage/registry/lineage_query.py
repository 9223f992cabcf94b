"""Look up lineage in the registry: what a version was made from, and which versions a file belongs to."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from plumage.common import paths
from plumage.common.files import parse_json, sha256
from plumage.common.yaml_file import parse_yaml
from plumage.errors import NoStoreError, TrackingError
from plumage.registry.served_model import ARTIFACTS
from plumage.registry.versions import check_files, find_version, model_versions, recorded_hashes
from plumage.tracking import tags
from plumage.tracking.lineage import DIFF_FILE, MACHINE_FILE, PACKAGES_FILE
from plumage.tracking.store import one_line_errors, use_store

PARAMS_FILE, LOCK_FILE, METRICS_FILE = paths.PARAMS.name, paths.DVC_LOCK.name, paths.METRICS.name
PROVENANCE_FILES = (PARAMS_FILE, LOCK_FILE, METRICS_FILE, PACKAGES_FILE, MACHINE_FILE, DIFF_FILE)


@dataclass(frozen=True)
class Lineage:
    """What a version was made from. Unknown parts are empty."""

    name: str
    version: int
    aliases: list[str]
    registered: str
    """UTC, as 2026-11-26 08:15:00."""
    run: str
    restored: bool
    """Whether `run` was restored from files instead of logged during training."""
    commit: str | None
    no_commit: str
    """Why there is no commit."""
    dirty: bool
    """Whether tracked files differed from the commit."""
    diff: str | None
    """That difference, for `git apply`."""
    dvc: dict[str, str]
    """DVC's hash of each output, by its path."""
    sha256: dict[str, str]
    """The hash of each of the model's files, by its name."""
    params: dict[str, Any]
    """The content of params.yaml, flat (`section.key`)."""
    metrics: dict[str, Any]
    """The content of reports/metrics.json."""
    machine: dict[str, str]
    packages: dict[str, str]
    """The version of each installed package, by its name."""

    @property
    def title(self) -> str:
        """Name, number and aliases."""
        return " ".join([self.name, "version", str(self.version), *(f"@{alias}" for alias in self.aliases)])


def version_uri(text: str, model_name: Callable[[], str]) -> str | None:
    """The `models:/` URI of `3`, `@champion` (both of `model_name()`), `NAME@champion` or a URI; None for other text."""
    if text.startswith("models:/"):
        return text
    if text.isdecimal():
        return f"models:/{model_name()}/{text}"
    name, at, alias = text.partition("@")
    return f"models:/{name or model_name()}@{alias}" if at and "/" not in text else None


def lineage_of(uri: str, root: Path) -> Lineage:
    """What the version `models:/NAME/3` or `models:/NAME@ALIAS` was made from.

    Raises:
        TrackingError: the registry can't be reached or has no such version, or a file is damaged.
        ModelError: a file is not the one that was registered.
    """
    version = find_version(uri, root)
    with tempfile.TemporaryDirectory() as folder:
        files = fetch_provenance(version, Path(folder))
        texts = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in files.items()}
    run = version.tags.get(tags.RUN_ID, version.run_id or "")
    params = parse_yaml(texts.get(PARAMS_FILE, ""), PARAMS_FILE)
    return Lineage(
        name=version.name,
        version=int(version.version),
        aliases=sorted(version.aliases),
        registered=f"{datetime.fromtimestamp(version.creation_timestamp / 1000, UTC):%Y-%m-%d %H:%M:%S}",
        run=run,
        restored=_is_restored(run),
        commit=version.tags.get(tags.GIT_COMMIT),
        no_commit=version.tags.get(tags.GIT_UNKNOWN, ""),
        dirty=version.tags.get(tags.GIT_DIRTY) == "true",
        diff=texts.get(DIFF_FILE),
        dvc={key.removeprefix(tags.DVC): value for key, value in version.tags.items() if key.startswith(tags.DVC)},
        sha256=recorded_hashes(version),
        params={f"{name}.{key}": value for name, section in params.items() for key, value in section.items()},
        metrics=_json_object(uri, METRICS_FILE, texts),
        machine=_json_object(uri, MACHINE_FILE, texts),
        packages=parse_packages(texts.get(PACKAGES_FILE, "")),
    )


def parse_packages(text: str) -> dict[str, str]:
    """The version of each package, by its name, in a version's packages.txt."""
    return dict(line.split("==", 1) for line in text.splitlines() if "==" in line)


def _json_object(uri: str, name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """The content of the version's file `name`, empty if it has none."""
    try:
        content = parse_json(texts.get(name, "{}"))
    except ValueError as error:
        raise TrackingError(f"{uri}: {name} is damaged ({error})") from None
    if not isinstance(content, dict):
        raise TrackingError(f"{uri}: {name} is damaged (it is no JSON object)")
    return content


def versions_of_file(path: Path, root: Path) -> list[ModelVersion]:
    """The versions, of any registered model, whose weights or description have the SHA-256 of this file.

    Raises:
        TrackingError: there is no such file, or the registry can't be reached.
    """
    if not path.is_file():
        takes = "takes a version (3, NAME@champion, models:/NAME/3) or a model's file"
        raise TrackingError(f"{path}: no such file; {takes}")
    digest = sha256(path)
    try:
        use_store(root)
    except NoStoreError:
        return []
    client = MlflowClient()
    with one_line_errors("MLflow's registry"):
        return [
            version
            for model in client.search_registered_models(max_results=1000)
            for version in model_versions(client, model.name)
            if digest in recorded_hashes(version).values()
        ]


def fetch_provenance(version: ModelVersion, folder: Path) -> dict[str, Path]:
    """Download those of PROVENANCE_FILES that a version has into `folder`. Returns their paths by their names.

    Raises:
        TrackingError: the version's files can't be downloaded, or are no longer there.
        ModelError: a file is not the one that was registered.
    """
    uri = f"models:/{version.name}/{version.version}"
    with one_line_errors(f"the files of {uri}", OSError):
        if not mlflow.artifacts.list_artifacts(uri):
            where = f"{paths.MLFLOW_ARTIFACTS}/ beside the database"
            raise TrackingError(f"the files of {uri} are gone; a SQLite store has them in {where}")
        existing = {Path(file.path).name for file in mlflow.artifacts.list_artifacts(f"{uri}/{ARTIFACTS}") or []}
        files = {
            name: Path(mlflow.artifacts.download_artifacts(f"{uri}/{ARTIFACTS}/{name}", dst_path=str(folder)))
            for name in PROVENANCE_FILES
            if name in existing
        }
    check_files(version, folder / ARTIFACTS, PROVENANCE_FILES)  # where MLflow puts them
    return files


def _is_restored(run_id: str) -> bool:
    """Whether a run was restored from files; False as well if the run no longer exists."""
    with one_line_errors("the MLflow store"):
        try:
            return tags.RESTORED in MlflowClient().get_run(run_id).data.tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
