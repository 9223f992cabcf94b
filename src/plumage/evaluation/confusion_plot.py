"""Plot of a confusion matrix, readable with up to 1,000 classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from plumage.evaluation.confusion import confused_pairs, most_confused
from plumage.evaluation.plots import GREY, INK, png_figure, shorten, text_width

CORRECT = LinearSegmentedColormap.from_list("correct", ["#cfe6ee", "#1f6f8b", "#0b3040"])
WRONG = LinearSegmentedColormap.from_list("wrong", ["#f5b48a", "#c8501e", "#6b1d04"])
COUNTED_CLASSES = 30  # most classes for which the cells show their counts
NAMED_CLASSES = 100  # up to this many, every row and column is named; beyond it, those of the most confused pairs
NAMED_PAIRS = 60  # of these, at most
NAME_FONT = 9.0  # in points, where not every class is named
MIN_MARK = 3.0  # smallest side of a mark in points: one error among 1,000 classes stays visible in its smaller cell
PANEL, PAIR, TOP = 4.2, 0.37, 0.45  # in inches: width of the list of pairs, height of a pair, height of the titles


def plot_confusion(path: Path, confusion: NDArray[np.int64], classes: Sequence[str], order: NDArray[np.int64]) -> None:
    """A C x C confusion matrix (row: actual class) with its classes in `order`, beside a list of its most confused pairs.

    The stronger a cell's colour, the larger its share of the row: correct predictions blue, errors orange, empty cells blank.
    """
    confusion, classes = confusion[np.ix_(order, order)], [classes[number] for number in order]
    count = len(classes)
    side = float(np.clip(3 + 0.2 * count, 4, 12))
    cell = side * 72 / count  # points
    all_named = count <= NAMED_CLASSES
    font = float(np.clip(0.75 * cell, 5, 8)) if all_named else NAME_FONT
    rows, columns = (
        (range(count), range(count)) if all_named else most_confused(confusion, NAMED_PAIRS, 1.2 * font / cell)
    )
    longest = max((text_width(shorten(classes[number])) for number in {*rows, *columns}), default=0)
    margin = 0.45 + 0.0088 * font * longest
    width, height = margin + side + 0.4 + PANEL, margin + side + TOP
    with png_figure(path, width, height, classes) as figure:
        figure.set_layout_engine("none")
        matrix = figure.add_axes((margin / width, margin / height, side / width, side / height))
        _draw_cells(matrix, confusion, cell)
        matrix.set_xticks(columns, [shorten(classes[number]) for number in columns], rotation=90, fontsize=font)
        matrix.set_yticks(rows, [shorten(classes[number]) for number in rows], fontsize=font)
        matrix.tick_params(length=0 if all_named else 3, color=GREY)
        named = "" if all_named else " (the most confused are named)"
        matrix.set_title(f"Confusion matrix: {confusion.sum():,} photos, {count:,} classes{named}")
        matrix.set(xlabel="predicted", ylabel="actual")
        left = (margin + side + 0.4) / width
        panel = figure.add_axes((left, 0, 1 - left, 1))
        panel.set(xlim=(0, PANEL), ylim=(height, 0))
        panel.axis("off")
        _list_pairs(panel, confusion, classes, limit=int((height - 1.5) / PAIR))
        for x, colours, what in ((0.0, CORRECT, "correct"), (1.9, WRONG, "misclassified")):
            scale = panel.inset_axes((x, TOP + 0.12, 1.5, 0.12), transform=panel.transData)
            scalars = ScalarMappable(Normalize(0, 1), colours)
            figure.colorbar(scalars, cax=scale, orientation="horizontal", ticks=[0, 0.5, 1])
            scale.set_title(f"{what}, share of the class", fontsize=8, fontweight="normal", pad=3)
            scale.xaxis.set_major_formatter(PercentFormatter(1))
            scale.tick_params(labelsize=7, length=2)


def _draw_cells(axes: Axes, confusion: NDArray[np.int64], cell: float) -> None:
    """One square per non-zero cell, `cell` points wide with a small gap, but at least MIN_MARK points."""
    count = len(confusion)
    rows, columns = np.nonzero(confusion)
    share = confusion[rows, columns] / confusion.sum(axis=1)[rows]
    correct = rows == columns
    colours = np.where(correct[:, None], CORRECT(share), WRONG(share))
    order = np.lexsort((share, ~correct))  # errors on top, then large shares on top of small ones
    size = max(cell * 0.94, MIN_MARK)
    axes.scatter(columns[order], rows[order], s=size**2, c=colours[order], marker="s", linewidths=0, clip_on=False)
    axes.set(xlim=(-0.5, count - 0.5), ylim=(count - 0.5, -0.5), aspect="equal", facecolor="#f4f5f6")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    if count <= COUNTED_CLASSES:
        for row, column, of_row in zip(rows, columns, share, strict=True):
            axes.text(
                int(column), int(row), f"{confusion[row, column]:,}", ha="center", va="center",
                fontsize=min(9, 0.42 * cell), color="white" if of_row > 0.35 else INK,
            )  # fmt: skip


def _list_pairs(axes: Axes, confusion: NDArray[np.int64], classes: Sequence[str], limit: int) -> None:
    """The `limit` most frequent errors, two lines per pair; the axes' unit is an inch, downwards."""
    y = TOP + 0.85
    pairs = confused_pairs(confusion, limit)
    total = int(confusion.sum() - confusion.trace())
    listed = sum(count for _, _, count in pairs)
    title = f"Most confused: {listed:,} of {total:,} errors" if pairs else "No photo is misclassified"
    axes.text(0, y, title, fontweight="bold", fontsize=10)
    for rank, (actual, predicted, count) in enumerate(pairs, start=1):
        top = y + rank * PAIR
        axes.text(0.3, top, f"{count:,}", ha="right", va="center", fontweight="bold", fontsize=10)
        axes.text(0.4, top - 0.07, shorten(classes[actual]), va="center", fontsize=8)
        note = f"predicted {shorten(classes[predicted])}"
        axes.text(0.4, top + 0.09, note, va="center", fontsize=8, color="#c8501e")
