"""Log a model to MLflow as a pyfunc model, and its test metrics with the data set that they were measured on."""

import io
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from PIL import Image

from plumage.common.files import sha256
from plumage.models.saved_model import DESCRIPTION_FILE, WEIGHTS_FILE, read_description
from plumage.registry import served_model
from plumage.registry.served_code import PACKAGE, code_files, pinned_requirements
from plumage.tracking.inputs import dataset_reference
from plumage.tracking.run import Run


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
