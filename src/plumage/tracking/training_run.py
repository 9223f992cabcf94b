"""The run that the train stage opens."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plumage.tracking.execution import begin_execution
from plumage.tracking.open_run import open_run
from plumage.tracking.run import Run


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
