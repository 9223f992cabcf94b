"""The pictures of `reports/plots/`: PNG, the same bytes for the same figures.

They use matplotlib's Figure directly, so no state is shared with a caller's pyplot, and matplotlib's own defaults, so a
person's matplotlibrc doesn't change them. The confusion matrix has a file of its own, `confusion_plot.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from plumage.common.files import atomic_path
from plumage.evaluation.embedding import Embedding
from plumage.evaluation.example_photos import ShownPhoto
from plumage.evaluation.metrics import Floats, Reliability

BLUE, ORANGE, GREY, INK = "#1f6f8b", "#c8501e", "#8a8f98", "#22262b"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "text.parse_math": False,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": INK,
    "axes.axisbelow": True, "axes.grid": True, "grid.color": "#e3e5e8", "xtick.color": INK, "ytick.color": INK,
    "legend.frameon": False, "savefig.dpi": 150,
}  # fmt: skip
WORST_CLASSES = 30
"""Bars show at most as many classes."""
COLUMNS = 4
"""Photos in a line, each twice."""
HEAT = "autumn_r"
"""Matplotlib's colours from yellow to red: what speaks for a class most is red."""


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


def plot_reliability(path: Path, bins: Mapping[str, Reliability]) -> None:
    """Accuracy against confidence by bin, of one or two states of a model (before and after its calibration), and how many photos are
    in each bin. The last state is drawn as bars, one before it as points, larger for more photos.
    """
    *before, (name, after) = bins.items()
    with picture(path, 6.5, 6.5) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        some = after.count > 0
        left, right, width = after.edges[:-1], after.edges[1:], np.diff(after.edges)
        bars = {"width": width, "align": "edge", "edgecolor": "white"}
        upper.bar(left, after.accuracy, color=BLUE, label=f"accuracy, {name}" if before else "accuracy", **bars)
        upper.hlines(
            after.confidence[some], left[some], right[some], color=ORANGE, linewidth=2, label="mean confidence"
        )
        for earlier, other in before:
            kept = other.count > 0
            area = 10 + 90 * other.count[kept] / other.count.max()
            label = f"accuracy, {earlier}"
            upper.scatter(
                other.confidence[kept], other.accuracy[kept], area, color=INK, label=label, zorder=3, clip_on=False
            )
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        errors = ", ".join(f"ECE {state.ece:.3f}{f' {said}' if before else ''}" for said, state in bins.items())
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"Reliability, {errors}")
        upper.legend(loc="upper left")
        lower.bar(left, after.count, color=GREY, **bars)
        lower.set(ylabel="photos", xlabel="confidence (probability of the predicted class)")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        upper.yaxis.set_major_formatter(PercentFormatter(1))
        lower.xaxis.set_major_formatter(PercentFormatter(1))


def plot_coverage(path: Path, coverage: Floats, accuracy: Floats) -> None:
    """The accuracy of the photos that a model answers against their share, when it abstains from those it is least sure of."""
    with picture(path, 6.5, 4.5) as figure:
        axes = figure.add_subplot()
        axes.step(coverage, accuracy, where="post", color=BLUE, linewidth=1.5)
        axes.set(xlim=(0, 1), xlabel="share of photos answered, the surest first", ylabel="accuracy of those")
        axes.set_title("Accuracy when the model may abstain")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def plot_classes(path: Path, table: pd.DataFrame) -> None:
    """F1 of each class that has photos, the worst first, with its interval; of many, only the worst WORST_CLASSES. `table` is that of
    reports/per_class.csv.
    """
    tested = table[table["support"] > 0]
    worst = tested.sort_values("f1", kind="stable").head(WORST_CLASSES)
    with picture(path, 7.5, 1.2 + 0.24 * len(worst)) as figure:
        axes = figure.add_subplot()
        rows = np.arange(len(worst))
        axes.barh(rows, worst["f1"], height=0.72, color=BLUE)
        axes.hlines(rows, worst["f1_low"], worst["f1_high"], color=INK, linewidth=1.2)
        axes.axvline(mean := float(tested["f1"].mean()), color=ORANGE, linewidth=1.5)
        for row, support in zip(rows, worst["support"], strict=True):
            axes.annotate(f"{support:,}", (1.01, row), va="center", fontsize=8, annotation_clip=False)
        axes.set_yticks(rows, [shorten(str(name)) for name in worst["label"]])
        axes.set(xlim=(0, 1), ylim=(len(worst) - 0.4, -0.6))
        axes.set_xlabel(f"F1; the line is the mean of all classes, {mean:.3f}; on the right, photos")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        few = len(worst) == len(tested)
        axes.set_title("F1 by class" if few else f"F1 of the {len(worst)} worst of {len(tested):,} classes")


def plot_embedding(path: Path, embedding: Embedding, right: NDArray[np.bool_]) -> None:
    """N photos as points, the `right` ones blue, the others orange above them."""
    with picture(path, 6.5, 6.5) as figure:
        axes = figure.add_subplot()
        size = float(np.clip(12_000 / max(1, len(right)), 5, 24))
        for chosen, colour, name in ((right, BLUE, "right"), (~right, ORANGE, "wrong")):
            points = embedding.points[chosen]
            axes.scatter(
                points[:, 0],
                points[:, 1],
                s=size,
                color=colour,
                linewidths=0,
                alpha=0.6,
                label=f"{name}, {len(points):,}",
            )
        first, second = embedding.variance
        axes.set_title("Test photos by their features")
        axes.set(
            xlabel=f"first component, {first:.0%} of the variance",
            ylabel=f"second component, {second:.0%} of the variance",
        )
        axes.legend(markerscale=2)


def plot_photos(path: Path, title: str, photos: Sequence[tuple[ShownPhoto, str]]) -> None:
    """Photos with their captions, each beside itself under its Grad-CAM."""
    columns = min(COLUMNS, max(1, len(photos)))
    rows = max(1, -(-len(photos) // columns))
    with picture(path, max(2.6 * columns, 4), 1.85 * rows + 0.4) as figure:
        figure.suptitle(title, fontweight="bold", fontsize=11, x=0.01, ha="left")
        grid = figure.subplots(rows, 2 * columns, squeeze=False)
        for axes in grid.flat:
            axes.axis("off")
        for place, (photo, caption) in enumerate(photos):
            plain, covered = (grid[place // columns, 2 * (place % columns) + side] for side in (0, 1))
            image = photo.image()
            whole = (0, image.width, image.height, 0)
            plain.imshow(image, extent=whole)
            covered.imshow(image, extent=whole)
            covered.imshow(
                photo.heat, extent=whole, cmap=HEAT, vmin=0, vmax=1, alpha=0.7 * np.clip(photo.heat, 0, 1),
                interpolation="bilinear",
            )  # fmt: skip
            plain.set_title(caption, fontsize=7, fontweight="normal", pad=4)


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
