"""The pictures of reports/plots/: which there are, and of what."""

from pathlib import Path

from plumage.evaluation import plots
from plumage.evaluation.confusion_plot import plot_confusion
from plumage.evaluation.dvc_plots import write_plot_data
from plumage.evaluation.result import EvaluationResult

SHOWN = 12
"""Photos in a picture of some."""


def write_pictures(reports: Path, judged: EvaluationResult) -> None:
    """Write the PNG files of reports/plots/ and the CSV files of reports/plot_data/, which `dvc plots` draws from."""
    folder, classes = reports / "plots", judged.classes
    plot_confusion(folder / "confusion.png", judged.confusion, classes, judged.order)
    plots.plot_reliability(folder / "reliability.png", judged.reliability)
    plots.plot_coverage(folder / "coverage.png", *judged.coverage)
    plots.plot_classes(folder / "classes.png", judged.per_class)
    plots.plot_embedding(folder / "embedding.png", judged.embedding, judged.predicted == judged.labels)
    plots.plot_history(folder / "history.png", judged.history)
    for name, title, places in (
        ("mistakes", "The most confident mistakes", judged.gallery.mistakes),
        ("unsure", "The least sure hits", judged.gallery.unsure),
    ):
        shown = [(judged.photos[place], _caption(judged, place)) for place in places[:SHOWN]]
        plots.plot_photos(folder / f"{name}.png", title, shown)
    after = list(judged.reliability.values())[-1]
    write_plot_data(reports / "plot_data", judged.labels, judged.predicted, classes, after)


def _caption(judged: EvaluationResult, place: int) -> str:
    label, predicted = judged.labels[place], judged.predicted[place]
    said = plots.shorten(judged.classes[predicted], 26) + f", {judged.probabilities[place, predicted]:.0%}"
    return said if label == predicted else f"{plots.shorten(judged.classes[label], 30)}\ntaken for {said}"
