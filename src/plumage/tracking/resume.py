"""The run of the pipeline execution whose outputs lie in the working directory, brought back from them where it is missing."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plumage.tracking.reports import log_evaluation
from plumage.tracking.runs import Run, Stage, continued_run


@contextmanager
def resume_run(root: Path, experiment: str, params: Mapping[str, Any], stage: Stage) -> Iterator[Run]:
    """Add `stage` to the run of models/run.json, as `continued_run` does, with all that earlier stages have logged.

    What the store lacks (a fresh clone, other `evaluate` parameters) is logged from the files of those stages: inputs,
    packages and machine of the training, curves, figures, pictures and tables.

    Raises:
        TrackingError: the store can't be reached.
    """
    trained = json.loads(Path("models/run.json").read_text(encoding="utf-8"))

    def restore(run: Run) -> None:
        run.log_history(Path("reports/history.csv"))
        run.log_results({"best_epoch": trained["best_epoch"]})
        run.log_inputs(Path("data/splits.csv"), Path("data/dataset"), trained["choices"], trained["environment"])

    with continued_run(root, experiment, trained["run_id"], params, stage, restore) as run:
        if stage == "register" and "evaluate" not in run.stages:
            log_evaluation(run, Path("reports"))
            run.finish("evaluate")
        yield run
