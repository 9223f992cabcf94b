"""Plots as PNG files: the same data gives the same bytes.

They use matplotlib's Figure directly, which shares no state with pyplot, and its default style, not a personal matplotlibrc.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from unicodedata import east_asian_width

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from plumage.common.files import atomic_path
from plumage.evaluation.calibration import Reliability
from plumage.evaluation.embedding import Embedding, frame
from plumage.evaluation.example_photos import ExamplePhoto
from plumage.evaluation.fonts import drawing_quietly, families
from plumage.evaluation.selective import CoverageCurve

BLUE, ORANGE, GREY, INK = "#1f6f8b", "#c8501e", "#8a8f98", "#22262b"
STYLE = {
    "font.size": 9, "text.color": INK, "text.parse_math": False,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.labelcolor": INK,
    "axes.axisbelow": True, "axes.grid": True, "grid.color": "#e3e5e8", "xtick.color": INK, "ytick.color": INK,
    "legend.frameon": False,
}  # fmt: skip
COMPRESSION = {"compress_level": 4}  # of PNG; 6 makes files 0.4% smaller and takes a third longer
WORST_CLASSES = 30  # most classes that a bar chart shows
COLUMNS = 4  # photos per row; each is shown twice
PHOTO = 1.2  # its longer side, in inches
HEAT = "autumn_r"  # Matplotlib's colours from yellow to red: red is the strongest evidence for a class


@contextmanager
def png_figure(path: Path, width: float, height: float, names: Iterable[str] = ()) -> Iterator[Figure]:
    """An empty figure of width x height inches, written to `path` as PNG if the block ends without an error.

    Its fonts have the characters of `names`, as far as this machine has such fonts; other characters are boxes.
    """
    with matplotlib.style.context(["default", STYLE | {"font.family": families(names)}]), drawing_quietly():
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        yield figure
        with atomic_path(path) as temporary:  # `savefig` would draw it twice
            FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None}, pil_kwargs=COMPRESSION)


def text_width(name: str) -> int:
    """The width of `name` in characters of the Latin script; a Chinese one is as wide as two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in name)


def shorten(name: str, length: int = 40) -> str:
    """`name`, cut to at most `length` characters, as `text_width` counts them."""
    if text_width(name) <= length:
        return name
    ends = accumulate(map(text_width, name))
    return f"{name[: sum(end < length for end in ends)].rstrip()}…"


def plot_reliability(path: Path, bins: Mapping[str, Reliability]) -> None:
    """Accuracy and number of photos per bin of confidence, for one or more states of a model (before and after calibration).

    The last is drawn as bars, earlier ones as points whose area grows with the number of photos.
    """
    *before, (name, after) = bins.items()
    with png_figure(path, 6.5, 6.5) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        filled = after.count > 0
        left, right, width = after.edges[:-1], after.edges[1:], np.diff(after.edges)
        bars = {"width": width, "align": "edge", "edgecolor": "white"}
        upper.bar(left, after.accuracy, color=BLUE, label=f"accuracy, {name}" if before else "accuracy", **bars)
        means = after.confidence[filled]
        upper.hlines(means, left[filled], right[filled], color=ORANGE, linewidth=2, label="mean confidence")
        for earlier, other in before:
            shown = other.count > 0
            area = 10 + 90 * other.count[shown] / other.count.max()
            x, y, label = other.confidence[shown], other.accuracy[shown], f"accuracy, {earlier}"
            upper.scatter(x, y, area, color=INK, label=label, zorder=3, clip_on=False)
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        errors = ", ".join(f"ECE {state.ece:.3f}{f' {when}' if before else ''}" for when, state in bins.items())
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=f"Reliability, {errors}")
        upper.legend(loc="upper left")
        lower.bar(left, after.count, color=GREY, **bars)
        lower.set(ylabel="photos", xlabel="confidence (probability of the predicted class)")
        lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        upper.yaxis.set_major_formatter(PercentFormatter(1))
        lower.xaxis.set_major_formatter(PercentFormatter(1))


def plot_coverage(path: Path, curve: CoverageCurve) -> None:
    """Accuracy against coverage, for a model that abstains on its least confident predictions."""
    with png_figure(path, 6.5, 4.5) as figure:
        axes = figure.add_subplot()
        axes.step(curve.coverage, curve.accuracy, where="post", color=BLUE, linewidth=1.5)
        axes.set(xlim=(0, 1), xlabel="share of photos answered, most confident first", ylabel="accuracy on them")
        axes.set_title("Accuracy if the model may abstain")
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def plot_classes(path: Path, table: pd.DataFrame) -> None:
    """F1 per class with its interval, the worst first; at most the WORST_CLASSES worst. `table` is reports/per_class.csv."""
    tested = table[table["support"] > 0]
    worst = tested.sort_values("f1", kind="stable").head(WORST_CLASSES)
    with png_figure(path, 7.5, 1.2 + 0.24 * len(worst), worst["label"]) as figure:
        axes = figure.add_subplot()
        rows = np.arange(len(worst))
        axes.barh(rows, worst["f1"], height=0.72, color=BLUE)
        axes.hlines(rows, worst["f1_low"], worst["f1_high"], color=INK, linewidth=1.2)
        axes.axvline(mean := float(tested["f1"].mean()), color=ORANGE, linewidth=1.5)
        for row, support in zip(rows, worst["support"], strict=True):
            axes.annotate(f"{support:,}", (1.01, row), va="center", fontsize=8, annotation_clip=False)
        axes.set_yticks(rows, [shorten(str(name)) for name in worst["label"]])
        axes.set(xlim=(0, 1), ylim=(len(worst) - 0.4, -0.6))
        axes.set_xlabel(f"F1 (line: mean of all classes, {mean:.3f}; right: photos)")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        of_worst = f"F1 of the {len(worst)} worst of {len(tested):,} classes"
        axes.set_title("F1 by class" if len(worst) == len(tested) else of_worst)


def plot_embedding(path: Path, embedding: Embedding, correct: NDArray[np.bool_]) -> None:
    """N photos as points: correct predictions blue, wrong ones orange on top."""
    with png_figure(path, 6.5, 6.5) as figure:
        axes = figure.add_subplot()
        size = float(np.clip(12_000 / max(1, len(correct)), 5, 24))
        for chosen, colour, name in ((correct, BLUE, "correct"), (~correct, ORANGE, "wrong")):
            points = embedding.points[chosen]
            label = f"{name}, {len(points):,}"
            axes.scatter(points[:, 0], points[:, 1], size, color=colour, linewidths=0, alpha=0.6, label=label)
        (left, bottom), (right, top) = frame(embedding.points)
        margins = 0.05 * (right - left) or 1, 0.05 * (top - bottom) or 1
        axes.set(xlim=(left - margins[0], right + margins[0]), ylim=(bottom - margins[1], top + margins[1]))
        first, second = embedding.variance
        axes.set_title("Test photos by their features")
        axes.set_xlabel(f"first component, {first:.0%} of the variance")
        axes.set_ylabel(f"second component, {second:.0%} of the variance")
        axes.legend(markerscale=2)


def plot_photos(path: Path, title: str, photos: Sequence[tuple[ExamplePhoto, str]]) -> None:
    """Photos with captions, each next to a copy overlaid with its Grad-CAM."""
    columns = min(COLUMNS, max(1, len(photos)))
    rows = max(1, -(-len(photos) // columns))
    captions = [caption for _, caption in photos]
    width, height = max(2.6 * columns, 4), 1.85 * rows + 0.4
    with png_figure(path, width, height, captions) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))  # one, whose unit is an inch: each takes as long as several photos
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        axes.text(0.1, 0.2, title, fontweight="bold", fontsize=11, va="center")
        for number, (photo, caption) in enumerate(photos):
            left, top = 2.6 * (number % columns) + 0.1, 1.85 * (number // columns) + 0.8
            axes.text(left, top - 0.06, caption, fontsize=7, va="bottom")
            image = photo.image()
            across, down = (PHOTO * side / max(image.size) for side in image.size)
            for x in (left, left + PHOTO + 0.05):
                extent = (x, x + across, top + down, top)
                axes.imshow(image, extent=extent, aspect="auto")
            axes.imshow(
                photo.heat, extent=extent, aspect="auto", cmap=HEAT, vmin=0, vmax=1,
                alpha=0.7 * np.clip(photo.heat, 0, 1), interpolation="bilinear",
            )  # fmt: skip


def plot_history(path: Path, history: pd.DataFrame, best_epoch: int | None = None) -> None:
    """Learning curves of reports/history.csv: loss, accuracy and learning rate, where it has them.

    `best_epoch`, from 1, is the one that the model's weights come from. It need not be the first with the highest accuracy.
    """
    panels = [
        (title, [column for column in history.columns if column.split("/")[-1] == last])
        for title, last in (("Loss", "loss"), ("Accuracy", "accuracy"), ("Learning rate", "lr"))
    ]
    panels = [(title, columns) for title, columns in panels if columns]
    with png_figure(path, 4 * len(panels), 3.4) as figure:
        for axes, (title, columns) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            _draw_curves(axes, history, columns, best_epoch)
            axes.set(title=title, xlabel="epoch")


def _draw_curves(axes: Axes, history: pd.DataFrame, columns: Sequence[str], best_epoch: int | None) -> None:
    colours = {"train": GREY, "val": BLUE}
    few = len(history) <= 25
    for column in columns:
        split, name = column.split("/")[0], column.split("/")[-1]
        colour = colours.get(split, ORANGE)
        axes.plot(history["epoch"], history[column], color=colour, marker="." if few else "", label=split)
        if column == "val/accuracy":
            best = history[history["epoch"] == best_epoch]
            for epoch, value in zip(best["epoch"], best[column], strict=True):
                axes.plot(epoch, value, "o", color=ORANGE, label=f"best: {value:.1%}, epoch {epoch}")
        if name == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if columns[0].split("/")[-1] != "lr":
        axes.legend()
