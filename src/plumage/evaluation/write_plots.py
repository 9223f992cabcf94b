"""Every file of reports/plots/ and reports/plot_data/."""

from pathlib import Path

from plumage.common import paths
from plumage.evaluation import plots
from plumage.evaluation.confusion_plot import plot_confusion
from plumage.evaluation.dvc_plots import write_plot_data
from plumage.evaluation.result import EvaluationResult

MAX_PHOTOS = 12
"""Photos per plot of examples."""
HISTORY_PLOT = "history.png"


def write_plots(reports: Path, result: EvaluationResult) -> None:
    """Write the PNG files of plots/ and the CSV files of plot_data/ into `reports`."""
    folder = reports / paths.PLOTS.name
    plot_confusion(folder / "confusion.png", result.confusion, result.classes, result.class_order)
    plots.plot_reliability(folder / "reliability.png", result.reliability)
    plots.plot_coverage(folder / "coverage.png", result.coverage)
    plots.plot_classes(folder / "classes.png", result.class_scores)
    plots.plot_embedding(folder / "embedding.png", result.embedding, result.sample.correct)
    plots.plot_history(folder / HISTORY_PLOT, result.history)
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
    prediction = f"{plots.shorten(classes[predicted], 26)}, {sample.confidence[photo]:.0%}"
    return prediction if label == predicted else f"{plots.shorten(classes[label], 30)}\npredicted {prediction}"
