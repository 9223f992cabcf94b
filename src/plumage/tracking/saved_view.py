"""A saved view of MLflow's runs page: the columns and charts to compare runs by.

MLflow keeps a saved view as a tag of the experiment, lists it under Views, and opens it for `?viewStateShareKey=ID`. The
tag's value is JSON: `name`, `createdAt` and, as text, `state`. The fields of the state are those of MLflow's
`ExperimentPageUIState`; a field that is missing has its default, and a person's own columns stay as they are.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from plumage.tracking.tags import SAVED_VIEW

VIEW_ID = "plumage"
VIEW_TAG = f"{SAVED_VIEW}{VIEW_ID}"
VIEW_NAME = "Compare runs"
METRICS = ("test/accuracy", "test/accuracy_ci95/low", "test/accuracy_ci95/high", "val/accuracy")
PARAMS = ("train.recipe", "model.name")
MAX_DIFFERING = 8
"""Columns of parameters that differ, besides PARAMS. More don't fit beside each other."""
CURVES, BARS = ("val/accuracy", "val/loss", "train/loss"), ("test/accuracy", "test/macro_f1", "test/ece")
CONFUSION_IMAGE = "confusion"
MIN_WIDTH, LETTER_WIDTH = 100, 9
"""Pixels, so that a column is as wide as its heading."""
MATRICES = 10
"""Confusion matrices side by side: of as many runs as MLflow shows in charts by default."""
MAIN_SECTION, MATRIX_SECTION, DIFFERENCE_SECTION = "Accuracy and loss", "Confusion matrices", "What differs"
LAYOUT = {MATRIX_SECTION: {"columns": 1, "cardHeight": 560}, DIFFERENCE_SECTION: {"columns": 1}}
"""Where it is not three charts per row, 360 pixels high."""
MODEL_SECTION, SYSTEM_SECTION, SYSTEM_PREFIX = "Model metrics", "System metrics", "system/"
"""Where MLflow puts metrics without a prefix, and those of the machine."""
NAVIGATION = "workflowType=machine_learning"
"""Without it, MLflow's pages have the navigation for language models around them until somebody switches it."""
MODELS_PATH = f"#/models?{NAVIGATION}"
"""The registered models' address, after the UI's."""


def view_path(experiment_id: str) -> str:
    """The saved view's address, after the UI's."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW_ID}&{NAVIGATION}"


def differing(runs: Iterable[Mapping[str, str]]) -> list[str]:
    """Names of the parameters in which runs differ, sorted; `runs` has the parameters of each."""
    values: dict[str, set[str]] = {}
    for params in runs:
        for name, value in params.items():
            values.setdefault(name, set()).add(value)
    return sorted(name for name, found in values.items() if len(found) > 1)


def saved_view(params: Sequence[str], metrics: Collection[str], created: int) -> str:
    """The tag's value.

    `params` are parameters that differ, `metrics` the names of all metrics; those without a chart of their own go to folded
    sections below. `created` is a time in milliseconds.
    """
    others = [name for name in params if name not in PARAMS][:MAX_DIFFERING]
    columns = [*(f"metrics.`{name}`" for name in METRICS), *(f"params.`{name}`" for name in (*PARAMS, *others))]
    sections = dict.fromkeys((MAIN_SECTION, MATRIX_SECTION, DIFFERENCE_SECTION), True)
    sections |= dict.fromkeys(sorted({_section(name) for name in metrics} - {SYSTEM_SECTION}), False)
    sections |= {MODEL_SECTION: False, SYSTEM_SECTION: False}
    state = {
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: max(MIN_WIDTH, LETTER_WIDTH * len(_name(column))) for column in columns},
        "compareRunCharts": _charts(),
        "compareRunSections": [
            {"uuid": _id(name), "name": name, "display": shown, "isReordered": False} | LAYOUT.get(name, {})
            for name, shown in sections.items()
        ],
        "isAccordionReordered": True,  # else MLflow sorts the sections by name
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "autoRefreshEnabled": True,
    }
    return json.dumps({"name": VIEW_NAME, "createdAt": created, "state": json.dumps(state)})


_LINE = {
    "lineSmoothness": 0,
    "scaleType": "linear",
    "xAxisScaleType": "linear",
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}
"""Without these MLflow smooths a curve."""


def _charts() -> list[dict[str, Any]]:
    curves = [_chart("LINE", MAIN_SECTION, name, **_LINE, metricKey=name, selectedMetricKeys=[name]) for name in CURVES]
    bars = [_chart("BAR", MAIN_SECTION, name, metricKey=name) for name in BARS]
    matrices = _chart(
        "IMAGE", MATRIX_SECTION, CONFUSION_IMAGE, imageKeys=[CONFUSION_IMAGE], step=0, showRunParams=False
    )
    differences = _chart(
        "DIFFERENCE",
        DIFFERENCE_SECTION,
        "differences",
        compareGroups=["Parameters"],
        chartName="Parameters that differ",
        showChangeFromBaseline=False,
        showDifferencesOnly=True,
        baselineColumnUuid="",
    )
    return [*curves, *bars, matrices | {"runsCountToCompare": MATRICES}, differences]


def _chart(kind: str, section: str, name: str, **settings: Any) -> dict[str, Any]:
    base = {"type": kind, "uuid": _id(f"{kind}-{name}"), "metricSectionId": _id(section)}
    return base | {"deleted": False, "isGenerated": False, "runsCountToCompare": 10} | settings


def _section(metric: str) -> str:
    """The section in which MLflow puts a metric's chart."""
    if metric.startswith(SYSTEM_PREFIX):
        return SYSTEM_SECTION
    return metric.rpartition("/")[0] or MODEL_SECTION


def _name(column: str) -> str:
    return column.split("`")[1]


def _id(name: str) -> str:
    return f"{VIEW_ID}-{name}"
