"""One execution of the pipeline, and the MLflow runs that belong to it.

An execution has one run: train opens it, evaluate and register add to it. Runs are found by the tag of their training's key
instead of by id, because models/run.json, which DVC hashes, must not change when the same training is repeated.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from plumage.common.text import shown
from plumage.tracking.alive import recover
from plumage.tracking.environment import undisturbed
from plumage.tracking.lineage import lineage_tags
from plumage.tracking.pages import prepare_pages
from plumage.tracking.run import Stage, param_texts
from plumage.tracking.store import connect, one_line_errors
from plumage.tracking.tags import GIT_COMMIT, GIT_UNKNOWN, TRAINING_KEY


@dataclass(frozen=True)
class Execution:
    """One execution of the pipeline: where its run is stored, what finds it, and what it shows."""

    root: Path
    """The repository's root."""
    experiment_id: str
    training_key: str
    """Hash of everything that decides the training's outcome (`plumage.training.checkpoints.training_key`)."""
    params: Mapping[str, Any]
    """Flat, as `section.key`."""
    lineage: Mapping[str, str]
    """Tags of `plumage.tracking.lineage.lineage_tags`."""

    @property
    def dvc_experiment(self) -> str | None:
        """DVC's name for the experiment, inside `dvc exp run`. A leftover name belongs to another commit."""
        commit = self.lineage.get(GIT_COMMIT)
        is_current = commit is None or commit == os.environ.get("DVC_EXP_BASELINE_REV")
        return os.environ.get("DVC_EXP_NAME") if is_current else None

    @property
    def run_name(self) -> str | None:
        """Name for a new run: DVC's in an experiment, else architecture and recipe, as `efficientnet_b0-scratch`."""
        known = [str(self.params[key]) for key in ("model.name", "train.recipe") if key in self.params]
        return self.dvc_experiment or "-".join(known) or None

    def runs(self) -> list[MlflowRun]:
        """Active runs of the same training whose parameters don't contradict `params`, newest first.

        MLflow's parameters are immutable, so a run with other values belongs to another execution.
        """
        wanted = param_texts(self.params)
        with one_line_errors("the MLflow store"):
            found = MlflowClient().search_runs(
                [self.experiment_id],
                f"tags.`{TRAINING_KEY}` = '{self.training_key}'",
                order_by=["attributes.start_time DESC"],
            )
        return [run for run in found if all(run.data.params.get(key, value) == value for key, value in wanted.items())]


def begin_execution(
    root: Path, experiment: str, training_key: str, params: Mapping[str, Any], stage: Stage
) -> Execution:
    """Connect to the store, deliver and end what earlier stages could not, and collect the lineage of `stage`.

    Raises:
        TrackingError: the store can't be reached, or the experiment was deleted.
    """
    experiment_id = connect(root, experiment)
    with undisturbed():
        recover(root)
        with one_line_errors("the MLflow store"):
            prepare_pages(MlflowClient(), experiment_id)
    lineage = lineage_tags(Path.cwd(), stage)
    if GIT_UNKNOWN in lineage and stage != "evaluate":  # evaluate adds to what train recorded
        print(f"no commit is recorded: {shown(lineage[GIT_UNKNOWN])}", flush=True)
    return Execution(root, experiment_id, training_key, params, lineage)
