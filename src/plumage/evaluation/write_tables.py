"""Write the CSV tables of an evaluation into reports/."""

from pathlib import Path

from plumage.common import paths
from plumage.evaluation.result import EvaluationResult
from plumage.evaluation.tables import confusion_table, predictions_table, write_table


def write_tables(reports: Path, result: EvaluationResult) -> None:
    """Write confusion.csv, per_class.csv, slices.csv and predictions.csv into `reports`."""
    tables = {
        paths.CONFUSION: confusion_table(result.confusion, result.classes),
        paths.PER_CLASS: result.class_scores,
        paths.SLICES: result.slices,
        paths.PREDICTIONS: predictions_table(result.sample, result.keys, result.classes),
    }
    for path, table in tables.items():
        write_table(reports / path.name, table)
