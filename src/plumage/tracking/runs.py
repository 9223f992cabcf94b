"""One MLflow run for one pipeline execution: train opens it, evaluate and register add to it.

A run never stays RUNNING: it ends FINISHED, FAILED on an exception, KILLED on Ctrl-C and SIGTERM, and KILLED by its
watchdog when its process disappears.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.pandas_dataset import from_pandas
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]  # made at import
from mlflow.entities import Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from plumage.tracking import watchdog
from plumage.tracking.lineage import environment, lineage_tags, write_lineage
from plumage.tracking.outbox import AWAY, Outbox, deliver_waiting
from plumage.tracking.store import connect, lock, one_line_errors

Stage = Literal["train", "evaluate", "register"]
RESTORED_FROM = "plumage.restored_from"
STAGE = "plumage.stage."
LONGEST_PARAM = 500
EPOCHS_HAVE = "train/loss"
"""The metric that tells which epochs a run has."""
BATCH = 100
"""MLflow takes no more parameters or tags in one call."""


class Run:
    """An open MLflow run. `stages` are those that were added to it before and finished."""

    outbox: Outbox | None = None
    """What metrics and tags go through while it is open."""

    def __init__(self, run_id: str, stages: frozenset[str], lineage: Mapping[str, str]) -> None:
        self.id = run_id
        self.stages = stages
        self.lineage = lineage
        self._client = MlflowClient()
        self._epochs: set[int] = set()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log figures by their MLflow names (`val/accuracy`), at `step` (the epoch) where they are a curve."""
        if self.outbox:
            self.outbox.metrics({name: float(value) for name, value in metrics.items()}, step or 0)
            return
        now = int(time.time() * 1000)
        entries = [Metric(name, float(value), now, step or 0) for name, value in metrics.items()]
        self._client.log_batch(self.id, metrics=entries)

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log a point of the curves, once: an epoch that the run has already is left as it is."""
        if epoch not in self._epochs:
            self.log_metrics(metrics, epoch)
            self._epochs.add(epoch)

    def look_up_epochs(self) -> None:
        """Find the epochs that a run that is gone on with has already."""
        self._epochs = {point.step for point in self._client.get_metric_history(self.id, EPOCHS_HAVE)}

    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Log final figures, once. One that has a curve (`val/accuracy`) becomes its last point: the run's value of it."""
        now = self._client.get_run(self.id).data.metrics
        for name, value in metrics.items():
            if now.get(name) != float(value):
                curve = self._client.get_metric_history(self.id, name)
                self.log_metrics({name: value}, max((point.step for point in curve), default=0))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log flat parameters (`section.key`); a value longer than 500 characters is cut."""
        entries = [Param(key, value) for key, value in _as_text(params).items()]
        for start in range(0, len(entries), BATCH):
            self._client.log_batch(self.id, params=entries[start : start + BATCH])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing those of the same name."""
        if self.outbox:
            self.outbox.tags({key: str(value) for key, value in tags.items()})
            return
        entries = [RunTag(key, str(value)) for key, value in tags.items()]
        for start in range(0, len(entries), BATCH):
            self._client.log_batch(self.id, tags=entries[start : start + BATCH])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Put a file or a folder's content into the run's files, under `folder`. Again replaces it."""
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log(self.id, str(path), folder)

    def log_table(self, path: Path, name: str) -> None:
        """Put a CSV file into the run as it is, and as `<name>.json`, which MLflow's UI shows as a table.

        MLflow's own `log_table` would append to a table that is there.
        """
        self.log_artifact(path)
        table = f"{name}.json"
        with tempfile.TemporaryDirectory() as folder:
            pd.read_csv(path, keep_default_na=False).to_json(Path(folder, table), orient="split", index=False)
            self._client.log_artifact(self.id, str(Path(folder, table)))
        tag = "mlflow.loggedArtifacts"
        tables = json.loads(self._client.get_run(self.id).data.tags.get(tag, "[]"))
        entry = {"path": table, "type": "table"}
        if entry not in tables:
            self._client.set_tag(self.id, tag, json.dumps([*tables, entry]))

    def log_history(self, path: Path) -> None:
        """Log the curves of a history.csv, once: the column `epoch`, then a column a metric."""
        self.look_up_epochs()
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                epoch = int(row.pop("epoch"))
                self.log_epoch(epoch, {name: float(value) for name, value in row.items() if value})

    def finish(self, stage: Stage) -> None:
        """Say that `stage` has been added whole."""
        self.set_tags({f"{STAGE}{stage}": "finished"})

    def log_inputs(
        self, splits: Path, dataset: Path, choices: Mapping[str, str], made_in: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Log what a training starts from: parameters, uncommitted changes, photos, `choices` (tags), its environment.

        `made_in` is such an environment (`plumage.tracking.lineage.environment`); None: this process's. Returns what
        models/run.json keeps of it, and the run's id.
        """
        made_in = made_in or environment()
        for file in ("params.yaml", "reports/data.json"):
            self.log_artifact(Path(file))
        with tempfile.TemporaryDirectory() as folder:
            for path in write_lineage(Path(folder), Path.cwd(), made_in):
                self.log_artifact(path)
        self.log_dataset("photos", splits, str(dataset))
        self.set_tags(choices)
        return {"run_id": self.id, "choices": dict(choices), "environment": dict(made_in)}

    def log_dataset(self, name: str, manifest: Path, source: str) -> None:
        """Log the data set as MLflow inputs, one a part (`<name>/train` ...), with their number of photos.

        `manifest` is the splits.csv (key, label, split); `source` is the path of the DVC output that holds the photos,
        whose DVC hash becomes the data set's digest.
        """
        table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
        digest = self.lineage.get(f"dvc.{source}")
        for part, rows in table.groupby("split"):
            data = from_pandas(
                rows[["key", "label"]],
                source=LocalArtifactDatasetSource(source),
                targets="label",
                name=f"{name}/{part}",
                digest=digest,
            )
            mlflow.log_input(data, context=str(part))


@contextmanager
def training_run(
    root: Path, experiment: str, params: Mapping[str, Any], interrupted: str | None = None
) -> Iterator[Run]:
    """Open the run of a pipeline execution, or go on with the run `interrupted` where this store has it with `params`.

    It is named by the DVC experiment (`DVC_EXP_NAME`) where there is one, and carries `params` (flat, `section.key`),
    the tags of `lineage_tags` and system metrics. Once it is open, a store that can't be reached stops nothing: metrics and
    tags wait on disk.

    Raises:
        TrackingError: the store can't be reached.
    """
    experiment_id = connect(root, experiment)
    deliver_waiting(root)
    lineage = lineage_tags(Path.cwd(), "train")
    found = _original(experiment_id, interrupted) if interrupted else None
    run_id = found.info.run_id if found and _agrees(found, params) else None
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the outbox tries again
    with _open("train", experiment_id, lineage, params, run_id, root) as run:
        yield run


@contextmanager
def continued_run(
    root: Path,
    experiment: str,
    run_id: str,
    params: Mapping[str, Any],
    stage: Stage,
    restore: Callable[[Run], None],
) -> Iterator[Run]:
    """Add `stage` to the run of the pipeline execution whose training was `run_id`.

    That is the first of these whose parameters do not contradict `params` (MLflow's parameters never change):
    1. the run `run_id` itself, when this store's experiment has it;
    2. a run restored from it (tag `plumage.restored_from`) earlier;
    3. a new run, restored from it now: with `params`, that tag, and what `restore` logs of the training.
    So a stage that is repeated adds to the same run, what it logged before being replaced, while an execution that
    skips training (other `evaluate.*` parameters, a fresh clone after `dvc pull`) has a run of its own. One whose
    restoring was cut off is restored again. `Run.stages` tells what it has.

    Raises:
        TrackingError: the store can't be reached.
    """
    experiment_id = connect(root, experiment)
    lineage = lineage_tags(Path.cwd(), stage)
    deliver_waiting(root)
    with lock(root):
        found = _find(experiment_id, run_id, params)
        if found is None or _half_restored(found):
            known = found.info.run_id if found else None
            restored = {**lineage, RESTORED_FROM: run_id}
            with _open("train", experiment_id, restored, params, known, measure=False) as run:
                restore(run)
            known = run.id
        else:
            known = found.info.run_id
    with _open(stage, experiment_id, lineage, params, known, measure=stage != "register") as run:
        yield run


def _half_restored(run: MlflowRun) -> bool:
    return RESTORED_FROM in run.data.tags and f"{STAGE}train" not in run.data.tags


def _find(experiment_id: str, run_id: str, params: Mapping[str, Any]) -> MlflowRun | None:
    """The first run by the rules of `continued_run`, if there is one."""
    client = MlflowClient()
    with one_line_errors("the MLflow store"):
        restored = f"tags.`{RESTORED_FROM}` = '{run_id}'"
        runs = list(client.search_runs([experiment_id], restored, order_by=["start_time"]))
    original = _original(experiment_id, run_id)
    return next((run for run in [*([original] if original else []), *runs] if _agrees(run, params)), None)


def _original(experiment_id: str, run_id: str) -> MlflowRun | None:
    """The run `run_id`, if the experiment has it."""
    with one_line_errors("the MLflow store"):
        try:
            run = MlflowClient().get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
    return run if run.info.lifecycle_stage == "active" and run.info.experiment_id == experiment_id else None


def _agrees(run: MlflowRun, params: Mapping[str, Any]) -> bool:
    """Whether none of the run's parameters, which never change, contradicts `params`."""
    return all(run.data.params.get(key, value) == value for key, value in _as_text(params).items())


class _Terminated(SystemExit):
    """SIGTERM, as an exception."""


@contextmanager
def _open(
    stage: Stage,
    experiment_id: str,
    lineage: Mapping[str, str],
    params: Mapping[str, Any],
    run_id: str | None = None,
    root: Path | None = None,
    measure: bool = True,
) -> Iterator[Run]:
    """Start an MLflow run (or go on with `run_id`) for `stage`; its status at the end is how the block ended.

    With `root`, that of the repository, what the block logs goes through an outbox there. `measure` adds system metrics.
    """
    name = os.environ.get("DVC_EXP_NAME")
    tags = {**lineage, "dvc.exp": name} if name else dict(lineage)
    if run_id:  # the run keeps the commit that it was trained with
        tags = {key: value for key, value in lineage.items() if key.startswith("dvc.")}
        name = None
    with one_line_errors("MLflow"), _sigterm_raises():
        active = mlflow.start_run(run_id, experiment_id, name, log_system_metrics=measure)
        guard = _watch(active.info.run_id)
        status, run = "FAILED", None
        try:
            finished = frozenset(tag.removeprefix(STAGE) for tag in active.data.tags if tag.startswith(STAGE))
            run = Run(active.info.run_id, finished, lineage)
            run.set_tags(tags)
            run.log_params(params)
            if run_id and root:
                run.look_up_epochs()
            with Outbox(root, run.id) if root else nullcontext() as run.outbox:
                yield run
                run.finish(stage)
            status = "FINISHED"
        except (KeyboardInterrupt, _Terminated):
            status = "KILLED"
            raise
        finally:
            _end(status, run.outbox if run else None)
            guard.kill()  # not where the end could not be told: then the watchdog has to end the run
            guard.wait()


def _end(status: str, outbox: Outbox | None) -> None:
    """End the active run, or leave that to the next stage that reaches the store."""
    try:
        mlflow.end_run(status)
    except AWAY:
        if outbox is None:
            raise
        outbox.end(status)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, and end the process with 143. Only the main thread can."""

    def terminate(signum: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated(128 + signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch(run_id: str) -> subprocess.Popen[bytes]:
    """Start the watchdog of a run. It holds no terminal, pipe or folder of this process open."""
    command: Sequence[str] = [
        sys.executable, "-P", watchdog.__file__, mlflow.get_tracking_uri(), run_id, str(os.getpid()),
    ]  # fmt: skip
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=null, stdout=null, stderr=null, cwd=os.sep, start_new_session=True)


def _as_text(params: Mapping[str, Any]) -> dict[str, str]:
    texts = {key: str(value) for key, value in params.items()}
    return {key: text if len(text) <= LONGEST_PARAM else text[: LONGEST_PARAM - 1] + "…" for key, text in texts.items()}
