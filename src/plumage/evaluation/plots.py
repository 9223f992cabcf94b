"""The pictures of `reports/plots/`: PNG, the same bytes for the same figures.

They use matplotlib's Figure directly, so no state is shared with a caller's pyplot, and matplotlib's own defaults, so a
person's matplotlibrc doesn't change them. The confusion matrix has a file of its own, `confusion_plot.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from plumage.evaluation.metrics import ClassScores, Reliability
from plumage.files import atomic_path

BLUE, ORANGE, GREY, INK = "#1f6f8b", "#c8501e", "#8a8f98", "#22262b"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "text.parse_math": False,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": INK,
    "axes.axisbelow": True, "axes.grid": True, "grid.color": "#e3e5e8", "xtick.color": INK, "ytick.color": INK,
    "legend.frameon": False, "savefig.dpi": 150,
}  # fmt: skip
WORST_CLASSES = 30
"""Recall bars show at most as many classes."""


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of width x height inches to draw on, written to `path` as PNG when the block ends without an error."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with atomic_path(path) as beside:
            figure.savefig(beside, format="png", metadata={"Software": None})


def shorten(name: str, length: int = 40) -> str:
    """`name`, its end cut to at most `length` characters where longer."""
    return name if len(name) <= length else f"{name[: length - 1].rstrip()}…"


def plot_reliability(path: Path, bins: Reliability) -> None:
    """Accuracy against confidence by bin, and how many photos are in each."""
    with picture(path, 6.5, 6.5) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        some = bins.count > 0
        left, right, width = bins.edges[:-1], bins.edges[1:], np.diff(bins.edges)
        bars = {"width": width, "align": "edge", "edgecolor": "white"}
        upper.bar(left, bins.accuracy, color=BLUE, label="accuracy", **bars)
        upper.hlines(bins.confidence[some], left[some], right[some], color=ORANGE, linewidth=2, label="mean confidence")
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"Reliability, ECE {bins.ece:.3f}")
        upper.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
        lower.bar(left, bins.count, color=GREY, **bars)
        lower.set(ylabel="photos", xlabel="confidence (probability of the predicted class)")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        upper.yaxis.set_major_formatter(PercentFormatter(1))
        lower.xaxis.set_major_formatter(PercentFormatter(1))


def plot_recall(path: Path, scores: ClassScores, classes: Sequence[str]) -> None:
    """Recall of each class that has photos, the worst first; of many, only the worst WORST_CLASSES."""
    tested = np.flatnonzero(scores.support)
    worst = tested[np.argsort(scores.recall[tested], kind="stable")][:WORST_CLASSES]
    with picture(path, 7.5, 1.2 + 0.24 * len(worst)) as figure:
        axes = figure.add_subplot()
        rows = np.arange(len(worst))
        axes.barh(rows, scores.recall[worst], height=0.72, color=BLUE)
        axes.axvline(mean := float(scores.recall[tested].mean()), color=ORANGE, linewidth=1.5)
        for row, index in zip(rows, worst, strict=True):
            right, total = round(scores.recall[index] * scores.support[index]), scores.support[index]
            axes.annotate(f"{right} of {total}", (1.01, row), va="center", fontsize=8, annotation_clip=False)
        axes.set_yticks(rows, [shorten(classes[index]) for index in worst])
        axes.set(xlim=(0, 1), ylim=(len(worst) - 0.4, -0.6))
        axes.set_xlabel(f"recall; the line is the mean of all classes, {mean:.1%}")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        few = len(worst) == len(tested)
        axes.set_title("Recall by class" if few else f"Recall of the {len(worst)} worst of {len(tested):,} classes")


def plot_history(path: Path, history: pd.DataFrame) -> None:
    """Learning curves from `reports/history.csv`: losses, accuracies and learning rate, whichever columns it has."""
    panels = [
        (title, [column for column in history.columns if column.split("/")[-1] == last])
        for title, last in (("Loss", "loss"), ("Accuracy", "accuracy"), ("Learning rate", "lr"))
    ]
    panels = [(title, columns) for title, columns in panels if columns]
    with picture(path, 4 * len(panels), 3.4) as figure:
        for axes, (title, columns) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            _draw_curves(axes, history, columns)
            axes.set(title=title, xlabel="epoch")


def _draw_curves(axes: Axes, history: pd.DataFrame, columns: Sequence[str]) -> None:
    colours = {"train": GREY, "val": BLUE}
    few = len(history) <= 25
    for column in columns:
        part, name = column.split("/")[0], column.split("/")[-1]
        colour = colours.get(part, ORANGE)
        axes.plot(history["epoch"], history[column], color=colour, marker="." if few else "", label=part)
        if column == "val/accuracy" and history[column].notna().any():
            best = int(np.nanargmax(history[column]))
            epoch, value = history["epoch"].iloc[best], history[column].iloc[best]
            axes.plot(epoch, value, "o", color=ORANGE, label=f"best: {value:.1%}, epoch {epoch}")
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if columns[0].split("/")[-1] != "lr":
        axes.legend()
