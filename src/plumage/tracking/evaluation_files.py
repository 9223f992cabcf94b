"""The evaluate stage's files, as a run shows them."""

import json
from collections.abc import Mapping
from typing import Any

from plumage.common.paths import CONFUSION, METRICS, PER_CLASS, PLOTS, PREDICTIONS, REPORT_PAGE, SLICES
from plumage.tracking.run import Run


def log_evaluation_files(run: Run) -> None:
    """Log what the evaluate stage wrote: metrics, tables, plots and the report."""
    run.log_results(flatten_metrics(json.loads(METRICS.read_text(encoding="utf-8"))))
    for table in (PER_CLASS, PREDICTIONS, SLICES, CONFUSION):
        run.log_table(table, table.stem)
    run.log_artifact(PLOTS, PLOTS.name)
    run.log_artifact(REPORT_PAGE)


def flatten_metrics(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """A metrics.json under MLflow's names: {"test": {"accuracy": 0.9}} becomes {"test/accuracy": 0.9}."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten_metrics(value, f"{name}/") if isinstance(value, Mapping) else {name: float(value)}
    return flat
