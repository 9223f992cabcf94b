"""Log a model to MLflow as a pyfunc model, and its test metrics with the data set that they were measured on."""

import io
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from PIL import Image

import plumage
from plumage.models.saved_model import DESCRIPTION_FILE, WEIGHTS_FILE, read_description
from plumage.registry import served_model
from plumage.tracking.inputs import dataset_reference
from plumage.tracking.run import Run

REQUIREMENTS = ("mlflow", "numpy", "pandas", "pillow", "pydantic", "safetensors", "torch", "torchvision")


def log_model(name: str, folder: Path, files: Sequence[Path], epoch: int) -> str:
    """Log the model in `folder` to the active run, with `files` among its artifacts. Returns the logged model's id.

    The model brings its own code (served_model.py and this package), so it runs where Plumage is not installed.
    `epoch`, from 1, is the one that its weights come from: MLflow copies the run's metrics of that step to the model.
    """
    description = read_description(folder / DESCRIPTION_FILE)
    photo = io.BytesIO()
    Image.new("RGB", (description.preprocessing.size,) * 2, (90, 130, 170)).save(photo, "PNG")
    prediction, *probabilities = served_model.output_columns(description.classes)
    logged = mlflow.pyfunc.log_model(
        name=name,
        python_model=served_model.__file__,
        artifacts={
            "weights": str(folder / WEIGHTS_FILE),
            "description": str(folder / DESCRIPTION_FILE),
            **{file.name: str(file) for file in files},
        },
        code_paths=[str(Path(plumage.__file__).parent)],
        pip_requirements=[f"{package}=={installed_version(package).split('+')[0]}" for package in REQUIREMENTS],
        signature=ModelSignature(
            inputs=Schema([ColSpec("binary", "image")]),
            outputs=Schema([ColSpec("string", prediction), *(ColSpec("float", column) for column in probabilities)]),
        ),
        input_example=pd.DataFrame({"image": [photo.getvalue()]}),
        step=epoch,
    )
    return str(logged.model_id)


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
