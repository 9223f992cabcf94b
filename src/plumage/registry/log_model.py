"""Log a model to MLflow as a pyfunc model, with its test metrics and their data set, and make it a registered version."""

import io
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.types import ColSpec, Schema
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS
from PIL import Image

from plumage.common.files import sha256
from plumage.models.description import DESCRIPTION_FILE, WEIGHTS_FILE, read_description
from plumage.registry import served_model
from plumage.registry.served_code import PACKAGE, code_files, pinned_requirements
from plumage.registry.versions import model_versions
from plumage.tracking.inputs import dataset_reference
from plumage.tracking.run import Run
from plumage.tracking.store import STORE_ERRORS
from plumage.tracking.tags import HAS_VERSION


def log_model(name: str, folder: Path, files: Sequence[Path], epoch: int) -> str:
    """Log the model in `folder` to the active run, with `files` among its artifacts. Returns the logged model's id.

    The model brings served_model.py and the code that this imports, so it runs where Plumage is not installed, and the
    SHA-256 of all that it loads. `epoch`, from 1, is the one that its weights come from: MLflow copies the run's metrics of
    that step to the model.
    """
    description = read_description(folder / DESCRIPTION_FILE)
    prediction, *probabilities = served_model.output_columns(description.classes)
    weights = [folder / WEIGHTS_FILE, folder / DESCRIPTION_FILE]
    with tempfile.TemporaryDirectory() as scratch:
        code = _copy_code(Path(scratch) / served_model.CODE)
        logged = mlflow.pyfunc.log_model(
            name=name,
            python_model=served_model.__file__,
            artifacts={
                **dict(zip(("weights", "description"), map(str, weights), strict=True)),
                **{file.name: str(file) for file in files},
            },
            code_paths=[str(code / PACKAGE.name)],
            pip_requirements=pinned_requirements(),
            uv_project_path=scratch,  # has no uv.lock; MLflow would take that of the working directory into the model
            model_config=served_model.LIMITS,
            metadata={served_model.HASHES: _hashes(weights, code)},
            signature=ModelSignature(
                inputs=Schema([ColSpec("binary", "image")]),
                outputs=Schema(
                    [ColSpec("string", prediction), *(ColSpec("float", column) for column in probabilities)]
                ),
            ),
            input_example=pd.DataFrame({"image": [_example_photo(description.preprocessing.size)]}),
            step=epoch,
            tags={HAS_VERSION: "false"},
        )
    return str(logged.model_id)


def _copy_code(folder: Path) -> Path:
    """Copy the files of this package that the model needs below `folder`. Returns `folder`."""
    for file in code_files():
        copy = folder / file.relative_to(PACKAGE.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return folder


def _hashes(weights: Sequence[Path], code: Path) -> dict[str, str]:
    """The SHA-256 of each file that the model loads, by its path in the logged model."""
    served = Path(served_model.__file__)
    return {
        **{f"{served_model.ARTIFACTS}/{file.name}": sha256(file) for file in weights},
        served.name: sha256(served),
        **{file.relative_to(code.parent).as_posix(): sha256(file) for file in sorted(code.rglob("*.*"))},
    }


def _example_photo(size: int) -> bytes:
    photo = io.BytesIO()
    Image.new("RGB", (size, size), (90, 130, 170)).save(photo, "PNG")
    return photo.getvalue()


def create_version(client: MlflowClient, name: str, model_id: str, tags: Mapping[str, str]) -> ModelVersion:
    """Make a logged model a version of the registered model `name`, which exists. It has its tags from the start."""
    version = client.create_model_version(name, f"models:/{model_id}", tags=dict(tags), model_id=model_id)
    _link(client, model_id, version)
    return client.get_model_version(name, version.version)


def complete_logged_models(client: MlflowClient, run: Run, name: str) -> None:
    """Link the models that a killed process logged to their versions. Delete those that it did not make a version.

    It looks at the models `name` in the experiment of `run`, without those of other runs that are RUNNING: their process
    may register them elsewhere (`MLFLOW_REGISTRY_URI`). Call it with `lock_model`.
    """
    experiment = client.get_run(run.id).info.experiment_id
    left = client.search_logged_models([experiment], f"name = '{name}' AND tags.`{HAS_VERSION}` = 'false'")
    versions = {version.source: version for version in (model_versions(client, name) if left else [])}
    for model in left:
        if version := versions.get(f"models:/{model.model_id}"):
            _link(client, model.model_id, version)
        elif model.source_run_id == run.id or not _is_running(client, model.source_run_id):
            with suppress(*STORE_ERRORS, OSError):  # without its files, or where they can't be deleted
                get_artifact_repository(model.artifact_location).delete_artifacts()
            client.delete_logged_model(model.model_id)


def _is_running(client: MlflowClient, run_id: str | None) -> bool:
    try:
        return run_id is not None and client.get_run(run_id).info.status == "RUNNING"
    except MlflowException:  # the run was deleted
        return False


def _link(client: MlflowClient, model_id: str, version: ModelVersion) -> None:
    """Link a logged model to its version, as `mlflow.register_model` does."""
    link = json.dumps([{"name": version.name, "version": version.version}])
    client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: link, HAS_VERSION: "true"})


def log_model_metrics(run: Run, model_id: str, metrics: Mapping[str, float]) -> None:
    """Log test metrics, by their MLflow names, to a logged model, linked to the test data set of the run.

    MLflow adds them to the run as well. A point that the run has keeps its step and time, so that it stays one point.
    """
    client = MlflowClient()
    name, digest = dataset_reference(run, "test") or (None, None)
    points = []
    for key, value in metrics.items():
        known = [point for point in client.get_metric_history(run.id, key) if point.value == value]
        moment, step = (known[-1].timestamp, known[-1].step) if known else (int(time.time() * 1000), 0)
        points.append(Metric(key, value, moment, step, model_id, name, digest, run.id))
    client.log_batch(run.id, metrics=points)
