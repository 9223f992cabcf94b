"""An open MLflow run, and what a stage can log to it."""

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.tracking.multimedia import compress_image_size
from PIL import Image

from plumage.common.files import naming
from plumage.common.paths import MLFLOW_ARTIFACTS
from plumage.common.redaction import redacted
from plumage.common.tables import read_rows, unguarded
from plumage.tracking.entries import EPOCHS_PER_REQUEST, Entry, MetricsEntry, TagsEntry, deliver, deliver_metrics
from plumage.tracking.outbox import Outbox
from plumage.tracking.tags import LOGGED_IMAGES, LOGGED_TABLES, STAGE

Stage = Literal["train", "evaluate", "register"]
MAX_PARAM_LENGTH = 500
EPOCH_METRIC = "train/loss"
"""Every epoch has a point of this metric."""
LEADING_METRICS = ("val/accuracy", "val/loss")
"""MLflow's page to compare runs opens on the metric that a run got first."""
NAMES = re.compile(r"key|label|actual|predicted|pred_\d|slice|split|suggested")
"""Columns of names: a class called 001, 1e5 or nan is no number."""
IMAGES = "images"
"""Folder of a run's artifacts in which MLflow looks for pictures."""
THUMBNAIL = 320
"""Pixels of the longer side of a picture in a chart: two fit beside each other. A click shows it in full."""
BATCH_SIZE = 100
"""MLflow accepts at most this many parameters or tags per call."""


class Run:
    """An open MLflow run. `stages` are the ones that finished in it before; `lineage` is that of the open stage."""

    outbox: Outbox | None = None
    """While set, metrics and tags go through it instead of straight to the store."""

    def __init__(self, run_id: str, stages: frozenset[str], lineage: Mapping[str, str]) -> None:
        self.id = run_id
        self.stages = stages
        self.lineage = lineage
        self._client = MlflowClient()
        self._logged_epochs: set[int] = set()

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics by their MLflow names (`val/accuracy`); for a curve, `step` is the epoch."""
        self._log(_point(metrics, step))

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log one point per curve, unless the run already has this epoch."""
        if epoch not in self._logged_epochs:
            self.log_metrics(metrics, epoch)
            self._logged_epochs.add(epoch)

    def load_logged_epochs(self) -> None:
        """Look up the epochs that the run already has, so that `log_epoch` skips them."""
        self._logged_epochs = {point.step for point in self._client.get_metric_history(self.id, EPOCH_METRIC)}

    def log_history(self, path: Path) -> None:
        """Log the curves of a history.csv (`epoch`, then one column per metric), skipping epochs that are there."""
        self.load_logged_epochs()
        rows = {int(row.pop("epoch")): row for row in read_rows(path)}
        points = [
            _point({name: float(value) for name, value in row.items() if value}, epoch)
            for epoch, row in rows.items()
            if epoch not in self._logged_epochs
        ]
        for start in range(0, len(points), EPOCHS_PER_REQUEST):
            deliver_metrics(self.id, points[start : start + EPOCHS_PER_REQUEST])
        self._logged_epochs |= rows.keys()

    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Log final metrics that changed. For one with a curve it adds a last point, which MLflow shows as its value."""
        current = self._client.get_run(self.id).data.metrics
        by_step: defaultdict[int, dict[str, float]] = defaultdict(dict)
        for name, value in metrics.items():
            if current.get(name) != float(value):
                curve = self._client.get_metric_history(self.id, name) if name in current else []
                by_step[max((point.step for point in curve), default=0)][name] = value
        for step, values in by_step.items():
            self.log_metrics(values, step)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log flat parameters (`section.key`), values cut to MAX_PARAM_LENGTH characters."""
        entries = [Param(key, text) for key, text in param_texts(params).items()]
        for start in range(0, len(entries), BATCH_SIZE):
            self._client.log_batch(self.id, params=entries[start : start + BATCH_SIZE])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing those of the same name; without secrets."""
        entries = [(key, redacted(str(value))) for key, value in tags.items()]
        for start in range(0, len(entries), BATCH_SIZE):
            self._log(TagsEntry(tags=dict(entries[start : start + BATCH_SIZE])))

    def _log(self, entry: Entry) -> None:
        if self.outbox:
            self.outbox.add(entry)
        else:
            deliver(self.id, entry)

    def mark_finished(self, stage: Stage) -> None:
        """Tag the run: everything that `stage` logs is in it."""
        self.set_tags({f"{STAGE}{stage}": "finished"})

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Copy a file, or the content of a folder, to `folder` of the run's artifacts, replacing what is there."""
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        with naming(MLFLOW_ARTIFACTS / path.name):
            log(self.id, str(path), folder)

    def log_image(self, path: Path, key: str) -> None:
        """Log a picture that MLflow's charts show beside those of other runs under `key`, replacing the earlier one.

        MLflow's own `log_image` adds one per call. The names of the files are its own: key, step, time, an id.
        """
        name = f"{key}+step+0+timestamp+0+{key}"
        with tempfile.TemporaryDirectory() as folder, naming(Path(folder)), Image.open(path) as picture:
            Path(folder, f"{name}.png").write_bytes(path.read_bytes())
            compress_image_size(picture.convert("RGB"), THUMBNAIL).save(Path(folder, f"{name}+compressed.webp"))
            self.log_artifact(Path(folder), IMAGES)
        self.set_tags({LOGGED_IMAGES: "True"})

    def log_table(self, path: Path, name: str) -> None:
        """Log a CSV file as `<name>.json`, whose rows MLflow's UI compares between runs.

        MLflow's own `log_table` appends to an existing table instead of replacing it.
        """
        table = f"{name}.json"
        with tempfile.TemporaryDirectory() as folder:
            columns = pd.read_csv(path, nrows=0).columns
            as_text: Any = {column: str for column in columns if NAMES.fullmatch(column)}
            rows = pd.read_csv(path, keep_default_na=False, dtype=as_text)
            rows[list(as_text)] = rows[list(as_text)].map(unguarded)
            with naming(Path(folder, table)):
                rows.to_json(Path(folder, table), orient="split", index=False)
            self.log_artifact(Path(folder, table))
        tables = json.loads(self._client.get_run(self.id).data.tags.get(LOGGED_TABLES, "[]"))
        entry = {"path": table, "type": "table"}
        if entry not in tables:
            self._client.set_tag(self.id, LOGGED_TABLES, json.dumps([*tables, entry]))


def _point(metrics: Mapping[str, float], step: int) -> MetricsEntry:
    names = dict.fromkeys(name for name in (*LEADING_METRICS, *metrics) if name in metrics)
    values = {name: float(metrics[name]) for name in names}
    return MetricsEntry(metrics=values, step=step, time=int(time.time() * 1000))


def param_texts(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow stores them: text without secrets, of at most MAX_PARAM_LENGTH characters, an ellipsis where it was cut."""
    texts = {key: redacted(str(value)) for key, value in params.items()}
    too_long = {key: text for key, text in texts.items() if len(text) > MAX_PARAM_LENGTH}
    return texts | {key: text[: MAX_PARAM_LENGTH - 1] + "…" for key, text in too_long.items()}
