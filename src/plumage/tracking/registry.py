"""The model registry: one version a model, and the gate that names the champion.

A version's tags: `plumage.model_hash` (of the model's two files), `plumage.test_hash` (of the test photos it was judged
on), its metrics by their MLflow names, its run, git commit and DVC hashes. Aliases: `challenger` is the newest version,
`champion` the one with the highest accuracy on the test photos.
"""

import hashlib
import io
import re
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from PIL import Image

import plumage
from plumage.errors import PlumageError, TrackingError
from plumage.files import sha256
from plumage.models.bundle import DESCRIPTION_FILE, WEIGHTS_FILE, read_description
from plumage.tracking.reports import flat_metrics
from plumage.tracking.runs import Run
from plumage.tracking.store import lock, one_line_errors, use_store

MODEL_HASH, TEST_HASH, RUN_ID = "plumage.model_hash", "plumage.test_hash", "plumage.run_id"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "safetensors", "torch", "torchvision")


def register(
    root: Path,
    run: Run,
    *,
    model_name: str,
    model_dir: Path,
    metrics: Mapping[str, Any],
    test_hash: str,
    accuracy_of: Callable[[Path], float],
) -> dict[str, Any]:
    """Register the model in `model_dir` as a version of `model_name`, and let it challenge the champion.

    A model that is registered already (by the hash of its files) gets no new version, from whichever run it comes; the
    figures in its tags are brought up to date. It becomes champion when there is none, or when its test accuracy in
    `metrics` (reports/metrics.json) is strictly higher than the champion's on the test photos of `test_hash`: from the
    champion's tags when it was judged on the same ones, else measured by `accuracy_of(folder of the champion)`, whose
    PlumageError (other classes, say) means that they can't be compared, and that the champion stays.

    Returns:
        The content of reports/registry.json.

    Raises:
        TrackingError: the registry can't be reached.
    """
    client = MlflowClient()
    accuracy = float(metrics["test"]["accuracy"])
    with one_line_errors("MLflow's registry"), lock(root):
        model_hash = _model_hash(model_dir)
        known = [found for found in _versions(client, model_name) if found.tags.get(MODEL_HASH) == model_hash]
        flat = {name: str(value) for name, value in flat_metrics(metrics).items() if "_ci95" not in name}
        figures = {TEST_HASH: test_hash, **flat}
        if known:
            version = known[-1]
            for key, value in figures.items():
                client.set_model_version_tag(model_name, version.version, key, value)
        else:
            # The UI shows every tag in a narrow column: the run has the hashes of all that the pipeline made.
            lineage = {
                key: value for key, value in run.lineage.items() if key.startswith(("git.", "plumage.", "dvc.data/"))
            }
            tags = {MODEL_HASH: model_hash, RUN_ID: run.id, **lineage, **figures}
            version = _create(client, model_name, model_dir, run, tags, accuracy)
        run.set_tags({"plumage.registered": f"{model_name}/{version.version}"})
        newest = _versions(client, model_name)[-1]
        client.set_registered_model_alias(model_name, "challenger", newest.version)
        decision = _challenge(client, model_name, version, accuracy, test_hash, accuracy_of)
        if decision["promoted"]:
            client.set_registered_model_alias(model_name, "champion", version.version)
        aliases = client.get_model_version(model_name, version.version).aliases
    return {
        "name": model_name,
        "version": int(version.version),
        "aliases": sorted(aliases),
        "created": not known,
        "run_id": version.tags.get(RUN_ID),
        "model_hash": model_hash,
        "decision": decision,
    }


def fetch_model(uri: str, root: Path, folder: Path) -> Path:
    """Fetch the weights and description of `models:/name@alias` or `models:/name/3` into a folder below `folder`.

    Raises:
        TrackingError: the registry can't be reached or has no such model, alias or version.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if match is None:
        raise TrackingError(f"{uri}: takes models:/NAME@ALIAS or models:/NAME/VERSION, as models:/bird-classifier/3")
    name, alias, number = match.groups()
    use_store(root)
    client = MlflowClient()
    with one_line_errors(uri):
        versions = _versions(client, name)
        if not versions:
            names = sorted(model.name for model in client.search_registered_models())
            raise TrackingError(f"{uri}: no such registered model; there are {', '.join(names) or 'none'}")
        aliases: dict[str, str] = client.get_registered_model(name).aliases
        wanted = number or aliases.get(alias)
        version = next((found for found in versions if str(found.version) == str(wanted)), None)
        if version is None:
            here = [*(f"@{known}" for known in aliases), *(f"/{found.version}" for found in versions)]
            raise TrackingError(f"{uri}: no such version; of {name} there are {', '.join(here)}")
        return _download(version, str(folder))


def _challenge(
    client: MlflowClient,
    name: str,
    version: ModelVersion,
    accuracy: float,
    test_hash: str,
    accuracy_of: Callable[[Path], float],
) -> dict[str, Any]:
    """Whether `version` becomes champion, and why."""
    champion = _champion(client, name)
    outcome: dict[str, Any] = {
        "promoted": True,
        "reason": "",
        "test_accuracy": accuracy,
        "champion_before": int(champion.version) if champion else None,
        "champion_test_accuracy": None,
    }
    if champion is None:
        return {**outcome, "reason": f"{name} had no champion"}
    if champion.version == version.version:
        return {**outcome, "promoted": False, "reason": f"version {version.version} is the champion already"}
    if champion.tags.get(TEST_HASH) == test_hash:
        theirs = float(champion.tags["test/accuracy"])
    else:
        try:
            with tempfile.TemporaryDirectory() as folder, one_line_errors("its files can't be fetched", OSError):
                theirs = round(accuracy_of(_download(champion, folder)), 6)  # as metrics.json rounds
        except PlumageError as error:
            reason = f"champion version {champion.version} can't be measured on these test photos: {error}"
            return {**outcome, "promoted": False, "reason": reason}
    better = accuracy > theirs
    against = f"{'over' if better else 'not over'} {theirs:.4f} of champion version {champion.version}"
    reason = f"test accuracy {accuracy:.4f} is {against}"
    return {**outcome, "promoted": better, "reason": reason, "champion_test_accuracy": theirs}


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    number = client.get_registered_model(name).aliases.get("champion")
    return client.get_model_version(name, number) if number else None


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """All versions of a registered model, oldest first; none when there is no such model."""
    found: list[ModelVersion] = []
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found += page
        token = page.token or None
    return sorted(found, key=lambda version: int(version.version))


def _create(
    client: MlflowClient, name: str, model_dir: Path, run: Run, tags: Mapping[str, str], accuracy: float
) -> ModelVersion:
    """Log the model in `model_dir` to `run` and make a version of it."""
    description = read_description(model_dir / DESCRIPTION_FILE)
    photo = io.BytesIO()
    Image.new("RGB", (description.preprocessing.size,) * 2, (90, 130, 170)).save(photo, "PNG")
    logged = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(Path(__file__).with_name("served_model.py")),
        artifacts={"weights": str(model_dir / WEIGHTS_FILE), "description": str(model_dir / DESCRIPTION_FILE)},
        code_paths=[str(Path(plumage.__file__).parent)],
        pip_requirements=[f"{package}=={installed_version(package).split('+')[0]}" for package in REQUIREMENTS],
        signature=ModelSignature(
            inputs=Schema([ColSpec("binary", "image")]),
            outputs=Schema([ColSpec("float", label) for label in description.classes]),
        ),
        input_example=pd.DataFrame({"image": [photo.getvalue()]}),
    )
    try:
        client.create_registered_model(name, description="Photo to class probabilities, registered by Plumage.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    about = f"{description.architecture.name}, {len(description.classes)} classes, test accuracy {accuracy:.4f}"
    return client.create_model_version(
        name, logged.model_uri, run.id, dict(tags), description=about, model_id=logged.model_id
    )


def _download(version: ModelVersion, folder: str) -> Path:
    """The folder, below `folder`, of a version's weights and description. Its code stays where it is."""
    uri = f"models:/{version.name}/{version.version}/artifacts"
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))


def _model_hash(model_dir: Path) -> str:
    """SHA-256 over both files of a model."""
    digests = [sha256(model_dir / file) for file in (WEIGHTS_FILE, DESCRIPTION_FILE)]
    return hashlib.sha256("".join(digests).encode()).hexdigest()
