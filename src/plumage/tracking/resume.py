"""The run to which evaluate and register add, restored from files if it is missing; and what evaluate adds."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plumage.common.files import read_output
from plumage.common.paths import (
    CONFUSION,
    HISTORY,
    LABEL_ERRORS,
    METRICS,
    PER_CLASS,
    PLOTS,
    PREDICTIONS,
    REPORT_PAGE,
    RUN,
    SLICES,
)  # fmt: skip
from plumage.errors import PipelineError
from plumage.tracking.execution import Execution, begin_execution
from plumage.tracking.inputs import log_inputs, log_lineage
from plumage.tracking.open_run import open_run
from plumage.tracking.run import Run, Stage
from plumage.tracking.saved_view import CONFUSION_IMAGE
from plumage.tracking.store import lock_runs, one_line_errors
from plumage.tracking.tags import RESTORED, STAGE

TRAINED_KEYS = {"training_key", "hardware", "environment", "best_epoch"}
"""In models/run.json."""


@contextmanager
def resume_run(root: Path, experiment: str, params: Mapping[str, Any], stage: Stage) -> Iterator[Run]:
    """Add `stage` to the run of the training in models/: the newest with its training key and without other `params`.

    So a repeated stage replaces what it logged to the same run. Where no run matches (other `evaluate` parameters, a fresh
    clone after `dvc pull`), a new one is restored from the files of the earlier stages: inputs, packages and machine of the
    training, curves, results, plots and tables. An interrupted restore is completed in the same run.

    Raises:
        TrackingError: the store can't be reached.
        PipelineError: models/run.json is damaged.
    """
    trained = read_output(RUN)
    if not isinstance(trained, dict) or not trained.keys() >= TRAINED_KEYS:
        raise PipelineError(f"{RUN} is not what the train stage writes; run `dvc repro`")
    execution = begin_execution(root, experiment, trained["training_key"], params, stage)
    with one_line_errors("the MLflow store"), lock_runs(root, execution.experiment_id):
        run_id = _find_or_restore(execution, trained)
    with open_run(execution, stage, run_id) as run:
        log_lineage(run)
        if stage == "register" and "evaluate" not in run.stages:
            log_evaluation_files(run)
            run.mark_finished("evaluate")
        yield run


def _find_or_restore(execution: Execution, trained: Mapping[str, Any]) -> str:
    """The id of the execution's run; `trained` is the content of models/run.json."""
    run_id = None
    for found in execution.runs():
        if f"{STAGE}train" in found.data.tags:
            return found.info.run_id
        if RESTORED in found.data.tags:
            run_id = found.info.run_id  # its restore was interrupted
            break
    with open_run(execution, "train", run_id, restored=True) as run:
        run.log_history(HISTORY)
        run.log_results({"best_epoch": trained["best_epoch"]})
        log_inputs(run, trained["hardware"], trained["environment"])
    return run.id


def log_evaluation_files(run: Run) -> None:
    """Log what the evaluate stage wrote: metrics, tables, plots and the report."""
    run.log_results(flatten_metrics(read_output(METRICS)))
    run.log_table(PER_CLASS, PER_CLASS.stem)
    for table in (PREDICTIONS, SLICES, CONFUSION, LABEL_ERRORS):
        run.log_artifact(table)
    run.log_artifact(PLOTS, PLOTS.name)
    run.log_image(PLOTS / "confusion.png", CONFUSION_IMAGE)
    run.log_artifact(REPORT_PAGE)


def flatten_metrics(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A metrics.json under MLflow's names: {"test": {"accuracy": 0.9}} becomes {"test/accuracy": 0.9}."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten_metrics(value, f"{name}/") if isinstance(value, Mapping) else {name: float(value)}
    return flat
