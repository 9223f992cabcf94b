"""Open an MLflow run for a stage, and give it a final status however the stage ends. No run stays RUNNING."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import mlflow
from mlflow import MlflowClient

from plumage.common.paths import DATASET, SPLITS
from plumage.common.variables import environment_variables
from plumage.errors import TrackingError
from plumage.tracking import watchdog
from plumage.tracking.alive import SignOfLife
from plumage.tracking.entries import Status
from plumage.tracking.environment import undisturbed
from plumage.tracking.execution import Execution, begin_execution
from plumage.tracking.outbox import UNREACHABLE, Outbox
from plumage.tracking.run import Run, Stage
from plumage.tracking.store import is_full_disk, one_line_errors
from plumage.tracking.tags import DVC, DVC_EXPERIMENT, PROCESS, RESTORED, STAGE, TRAINING_KEY

RUN_HASHES = (f"{DVC}{DATASET.as_posix()}", f"{DVC}{SPLITS.as_posix()}")
"""The hashes that are tags, to search runs for. lineage.json has all (`plumage.tracking.inputs.log_lineage`)."""


class _Terminated(SystemExit):
    """SIGTERM, as an exception."""


@contextmanager
def open_run(execution: Execution, stage: Stage, run_id: str | None = None, *, restored: bool = False) -> Iterator[Run]:
    """Start the run of `execution`, or reopen `run_id`, for `stage`. `restored` marks a training logged from its files.

    The final status is FINISHED; FAILED after an exception; KILLED after Ctrl-C or SIGTERM, and after the process
    disappeared: set by the watchdog or, if that disappeared too, by the next stage (`plumage.tracking.alive`). A real training
    logs through an outbox, so the store may be down meanwhile.

    Raises:
        TrackingError: the store can't be reached, or a run is open in this process already.
    """
    if other := mlflow.active_run():
        raise TrackingError(f"MLflow run {other.info.run_id} is open in this process; end it first (mlflow.end_run())")
    training = stage == "train" and not restored
    # None: as MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING says, by default not. MLflow's page to compare runs would open on them.
    system_metrics = False if stage == "register" or restored else None
    name = None if run_id else execution.run_name
    life = SignOfLife(execution.root, execution.experiment_id)
    with one_line_errors("MLflow"), undisturbed(), _sigterm_raises(), life:
        mlflow.set_experiment(experiment_id=execution.experiment_id)  # MLflow reopens no run of another experiment
        tags = _tags(execution, run_id is not None, restored)
        if run_id:  # before it is RUNNING; a new run has its tags from the start
            MlflowClient().set_tag(run_id, PROCESS, life.token)
        first = {**tags, PROCESS: life.token}
        active = mlflow.start_run(run_id, execution.experiment_id, name, tags=first, log_system_metrics=system_metrics)
        watching = _start_watchdog(active.info.run_id, life)
        status: Status = "FAILED"
        run = None
        try:
            finished = frozenset(tag.removeprefix(STAGE) for tag in active.data.tags if tag.startswith(STAGE))
            run = Run(active.info.run_id, finished, execution.lineage)
            if run_id:
                run.set_tags(tags)
            run.log_params(execution.params)
            if training and run_id:
                run.load_logged_epochs()
            with Outbox(execution.root, run.id) if training else nullcontext() as run.outbox:
                yield run
                run.mark_finished(stage)
            status = "FINISHED"
        except (KeyboardInterrupt, _Terminated):
            status = "KILLED"
            raise
        finally:
            if _end(status, run.outbox if run else None, life):
                life.remove()
            watching.kill()  # not reached when the end could not be reported: then the watchdog ends the run
            watching.wait()


@contextmanager
def training_run(
    root: Path, experiment: str, training_key: str, params: Mapping[str, Any], interrupted: str | None = None
) -> Iterator[Run]:
    """Open a new run for a training, or reopen `interrupted`, the run of one that was cut off.

    `interrupted` is a run id; it is reopened if the store has it with the same `training_key` and `params` (flat,
    `section.key`). Once the run is open, a store that goes down stops nothing: metrics and tags wait on disk.

    Raises:
        TrackingError: the store can't be reached.
    """
    execution = begin_execution(root, experiment, training_key, params, "train")
    known = [run.info.run_id for run in execution.runs()] if interrupted else []
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the outbox retries anyway
    with open_run(execution, "train", interrupted if interrupted in known else None) as run:
        yield run


def _tags(execution: Execution, reopened: bool, restored: bool) -> dict[str, str]:
    if reopened:  # the run keeps the commit that it was trained with
        return {}
    lineage = {key: value for key, value in execution.lineage.items() if not key.startswith(DVC) or key in RUN_HASHES}
    tags = {**lineage, TRAINING_KEY: execution.training_key}
    if execution.dvc_experiment:
        tags[DVC_EXPERIMENT] = execution.dvc_experiment
    if restored:
        tags[RESTORED] = "true"
    return tags


def _end(status: Status, outbox: Outbox | None, life: SignOfLife) -> bool:
    """End the active run, or leave that to the next stage that reaches the store. Returns whether it has ended."""
    active = mlflow.active_run()
    try:
        try:
            mlflow.end_run(status)
        except UNREACHABLE as error:
            if not (active and is_full_disk(error)):
                raise
            life.make_room()
            MlflowClient().set_terminated(active.info.run_id, status)  # MLflow has forgotten the active run
        if active:
            MlflowClient().delete_tag(active.info.run_id, PROCESS)
    except UNREACHABLE:
        if outbox is None:
            raise
        outbox.end_later(status)
        return False
    return True


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, and exit with 143. Only the main thread can install the handler."""

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


def _start_watchdog(run_id: str, life: SignOfLife) -> subprocess.Popen[bytes]:
    """Start the watchdog of a run. It keeps no terminal, pipe or folder of this process open.

    The store's URI may hold a password, so it is no argument: everyone on the machine sees those.
    """
    command = [sys.executable, "-P", watchdog.__file__, run_id, str(os.getpid()), str(life.path)]
    environment = environment_variables() | {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    null = subprocess.DEVNULL
    return subprocess.Popen(
        command, env=environment, stdin=null, stdout=null, stderr=null, cwd=os.sep, start_new_session=True
    )
