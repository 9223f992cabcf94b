"""What a training starts from, as its run shows it: parameters, uncommitted changes, photos, hardware, environment."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]  # defined at import time

from plumage.common.files import write_json
from plumage.common.paths import DATA_REPORT, DATASET, PARAMS, SPLITS
from plumage.common.tables import unguarded
from plumage.tracking.lineage import publishable, write_lineage
from plumage.tracking.run import Run
from plumage.tracking.tags import DVC, GIT_COMMIT, GIT_DIRTY, GIT_UNKNOWN, HARDWARE, VERSION

LINEAGE_FILE = "lineage.json"


def log_inputs(run: Run, hardware: Mapping[str, str], environment: Mapping[str, Any]) -> None:
    """Log what the training of the active `run` starts from.

    `hardware` has what each `auto` stood for (tags), `environment` the packages and the machine, as
    `plumage.tracking.lineage.environment` gives them.
    """
    run.log_artifact(DATA_REPORT)
    with tempfile.TemporaryDirectory() as folder:
        run.log_artifact(publishable(PARAMS, Path(folder)))
        for path in write_lineage(Path(folder), Path.cwd(), environment):
            run.log_artifact(path)
    log_lineage(run)
    log_datasets(run)
    run.set_tags({f"{HARDWARE}{name}": value for name, value in hardware.items()})


def log_lineage(run: Run) -> None:
    """Log lineage.json: the commit that the run was trained with, and DVC's hash of every output up to the open stage."""
    tags = MlflowClient().get_run(run.id).data.tags
    content: dict[str, Any] = {
        name: tags[name] for name in (VERSION, GIT_COMMIT, GIT_DIRTY, GIT_UNKNOWN) if name in tags
    }
    content["dvc"] = {key.removeprefix(DVC): value for key, value in run.lineage.items() if key.startswith(DVC)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, LINEAGE_FILE)
        write_json(file, content)
        run.log_artifact(file)


def log_datasets(run: Run) -> None:
    """Log the photos of each split as an MLflow data set (`photos/train` ...), with DVC's hash of the photos as digest."""
    table = pd.read_csv(SPLITS, dtype=str, keep_default_na=False).map(unguarded)
    for split, rows in table.groupby("split"):
        data = from_pandas(
            rows[["key", "label"]],
            source=LocalArtifactDatasetSource(str(DATASET)),
            targets="label",
            name=f"photos/{split}",
            digest=run.lineage.get(f"{DVC}{DATASET}"),
        )
        mlflow.log_input(data, context=str(split))


def dataset_reference(run: Run, split: str) -> tuple[str, str] | None:
    """Name and digest under which the run has the photos of `split`, to link metrics to them; None if it has none."""
    inputs = MlflowClient().get_run(run.id).inputs
    logged = [entry.dataset for entry in inputs.dataset_inputs] if inputs else []
    return next(((found.name, found.digest) for found in logged if found.name == f"photos/{split}"), None)
