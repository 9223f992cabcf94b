"""The stages' report files, as a run shows them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plumage.tracking.runs import Run


def log_evaluation(run: Run, reports: Path) -> None:
    """Log what the evaluate stage wrote into `reports`: figures, tables, pictures and the page."""
    run.log_results(flat_metrics(json.loads((reports / "metrics.json").read_text(encoding="utf-8"))))
    run.log_table(reports / "per_class.csv", "per_class")
    run.log_table(reports / "predictions.csv", "predictions")
    run.log_table(reports / "slices.csv", "slices")
    run.log_table(reports / "confusion.csv", "confusion")
    run.log_artifact(reports / "plots", "plots")
    run.log_artifact(reports / "report.html")


def flat_metrics(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """MLflow's names of a metrics.json: {"test": {"accuracy": 0.9}} is {"test/accuracy": 0.9}."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flat_metrics(value, f"{name}/") if isinstance(value, Mapping) else {name: float(value)}
    return flat
