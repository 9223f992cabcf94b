"""The HTML report: the evaluation on one self-contained page."""

import shlex
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from plumage.common import figures, paths
from plumage.common.page import write_page
from plumage.evaluation.advice import advise, cannot_tell
from plumage.evaluation.calibration import Reliability
from plumage.evaluation.folds import describe_folds
from plumage.evaluation.metric_table import CALIBRATION, HEADLINES
from plumage.evaluation.report_data import MAX_LABEL_ERRORS, MAX_POINTS, base64, num_outside, report_data
from plumage.evaluation.result import EvaluationResult
from plumage.evaluation.selective import CoverageCurve
from plumage.evaluation.write_plots import HISTORY_PLOT

MATRIX_CLASSES = 20  # most classes in the table of the confusion matrix; the canvas beside it has them all
CURVE_POINTS = 200  # most points of the coverage curve


def write_report(reports: Path, result: EvaluationResult) -> None:
    """Write report.html into `reports`, which holds plots/ already. The same inputs give the same bytes."""
    write_page(
        reports / paths.REPORT_PAGE.name,
        Path(__file__).with_name("report.html.j2"),
        title=result.title,
        result=result,
        probability=figures.probability,
        share=figures.share,
        score=figures.score,
        sample=result.sample,
        test=result.metrics["test"],
        headlines=HEADLINES,
        folds=describe_folds(result.metrics).replace("`", ""),
        calibration=CALIBRATION,
        num_errors=int((~result.sample.correct).sum()),
        made_from=result.provenance,
        advice=advise(result),
        cannot_tell=cannot_tell(result),
        relabel=relabel_command,
        matrix_classes=MATRIX_CLASSES,
        suspects=result.label_errors[:MAX_LABEL_ERRORS],
        classes=_class_rows(result),
        slices=result.slices.to_dict("records"),
        reliability={name: _bins(bins) for name, bins in result.reliability.items()},
        curve=_curve(result.coverage),
        history="data:image/png;base64," + base64((reports / paths.PLOTS.name / HISTORY_PLOT).read_bytes()),
        max_points=MAX_POINTS,
        num_outside=num_outside(result),
        data=report_data(result),
    )


def relabel_command(key: str, label: str) -> str:
    """The command that gives the photo `key` another label, as a shell takes it."""
    end = ["--"] if key.startswith("-") or label.startswith("-") else []
    return shlex.join(["plumage", "data", "relabel", *end, key, label])


def _class_rows(result: EvaluationResult) -> list[dict[str, Any]]:
    """One row per class, the lowest F1 first, with the class it is most often confused with."""
    errors = result.confusion - np.diag(result.confusion.diagonal())
    rows: list[dict[str, Any]] = [
        {
            **{str(key): value for key, value in row.items()},
            "number": number,
            "confused_with": result.classes[errors[number].argmax()] if errors[number].any() else "",
            "count": int(errors[number].max()),
        }
        for number, row in enumerate(result.class_scores.to_dict("records"))
    ]
    return sorted(rows, key=lambda row: row["f1"])


def _bins(bins: Reliability) -> list[dict[Hashable, Any]]:
    """The bins that have photos; `share` is a bin's count relative to the fullest bin's."""
    columns = {"low": bins.edges[:-1], "high": bins.edges[1:], "confidence": bins.confidence, "accuracy": bins.accuracy}
    table = pd.DataFrame(columns | {"count": bins.count, "share": bins.count / bins.count.max()})
    return table[bins.count > 0].to_dict("records")


def _curve(curve: CoverageCurve) -> dict[str, Any]:
    """At most CURVE_POINTS points of the curve, and the multiple of 0.1 at which its accuracy axis starts."""
    chosen = np.unique(np.linspace(0, len(curve.coverage) - 1, CURVE_POINTS).round().astype(int))
    coverage, accuracy = curve.coverage[chosen], curve.accuracy[chosen]
    low = float(np.floor(accuracy.min() * 10) / 10)
    return {"low": min(0.9, low), "points": list(zip(coverage.tolist(), accuracy.tolist(), strict=True))}
