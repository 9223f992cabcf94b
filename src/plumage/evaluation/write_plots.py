"""Every file of reports/plots/ and reports/plot_data/."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from plumage.common import paths
from plumage.common.figures import probability
from plumage.common.files import atomic_path
from plumage.common.text import some
from plumage.evaluation import plots
from plumage.evaluation.calibration import reliability
from plumage.evaluation.confusion import confused_pairs
from plumage.evaluation.confusion_plot import plot_confusion
from plumage.evaluation.fonts import missing_characters
from plumage.evaluation.result import EvaluationResult
from plumage.evaluation.sample import Ints, Sample
from plumage.evaluation.tables import write_table

MAX_PHOTOS = 12  # photos per plot of examples
HISTORY_PLOT = "history.png"
MAX_CLASSES = 30  # DVC's template writes a number into each cell of the matrix, readable up to this many classes


def write_plots(reports: Path, result: EvaluationResult) -> None:
    """Write the PNG files of plots/ and the CSV files of plot_data/ into `reports`."""
    folder = reports / paths.PLOTS.name
    if missing := missing_characters(result.classes):
        named = some(missing, 5, " ")
        print(f"no font of this machine has {named}: plots show boxes; install one (Debian: fonts-noto-cjk for CJK)")
    plot_confusion(folder / "confusion.png", result.confusion, result.classes, result.class_order)
    plots.plot_reliability(folder / "reliability.png", result.reliability)
    plots.plot_coverage(folder / "coverage.png", result.coverage)
    plots.plot_classes(folder / "classes.png", result.class_scores)
    plots.plot_embedding(folder / "embedding.png", result.embedding, result.sample.correct)
    plots.plot_history(folder / HISTORY_PLOT, result.history, result.best_epoch)
    for name, title, photos in (
        ("mistakes", "The most confident mistakes", result.examples.mistakes),
        ("unsure", "The least confident correct predictions", result.examples.unsure),
    ):
        captioned = [(result.example_photos[photo], _caption(result, photo)) for photo in photos[:MAX_PHOTOS]]
        plots.plot_photos(folder / f"{name}.png", title, captioned)
    write_plot_data(reports / paths.PLOT_DATA.name, result.sample, result.classes, result.confusion)


def _caption(result: EvaluationResult, photo: int) -> str:
    sample, classes = result.sample, result.classes
    label, predicted = sample.labels[photo], sample.predicted[photo]
    prediction = f"{plots.shorten(classes[predicted], 26)}, {probability(float(sample.confidence[photo]))}"
    return prediction if label == predicted else f"{plots.shorten(classes[label], 30)}\npredicted {prediction}"


def write_plot_data(folder: Path, sample: Sample, classes: Sequence[str], confusion: Ints) -> None:
    """Write confusion.csv and reliability.csv into `folder`.

    confusion.csv (actual, predicted) has one row per photo, of the MAX_CLASSES most confused classes at most; reliability.csv
    (confidence, accuracy, photos) one row per bin that has photos.
    """
    chosen = _most_confused_classes(confusion)
    kept = np.isin(sample.labels, chosen) & np.isin(sample.predicted, chosen)
    names, bins = np.array(classes, dtype=object), reliability(sample)
    filled = bins.count > 0
    tables = {
        "confusion": {"actual": names[sample.labels[kept]], "predicted": names[sample.predicted[kept]]},
        "reliability": {
            "confidence": bins.confidence[filled], "accuracy": bins.accuracy[filled], "photos": bins.count[filled],
        },
    }  # fmt: skip
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        for name, columns in tables.items():
            write_table(temporary / f"{name}.csv", pd.DataFrame(columns))


def _most_confused_classes(confusion: Ints) -> list[int]:
    """At most MAX_CLASSES classes: those of the most confused pairs, then the first of the others."""
    chosen: dict[int, None] = {}
    for actual, predicted, _ in confused_pairs(confusion, MAX_CLASSES**2):
        chosen |= dict.fromkeys((actual, predicted))
    return list(chosen | dict.fromkeys(range(len(confusion))))[:MAX_CLASSES]
