"""Pictures that are the same bytes for the same figures, of a size that a screen shows, for any number of classes."""

import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plumage.evaluation import metrics, plots
from plumage.evaluation.confusion_plot import plot_confusion

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train/loss": [2.0, 1.0, 0.5],
        "train/lr": [1e-3, 5e-4, 0],
        "val/loss": [2.1, np.nan, 0.9],
        "val/accuracy": [0.3, 0.7, 0.6],
        "train/images_per_second": [90.0, 91.0, 92.0],
    }
)


def names(count: int) -> list[str]:
    return [f"BLACK-THROATED GREEN $MOUNTAIN$ WARBLER {number}" for number in range(count)]


def confusion(guesses, classes: int) -> np.ndarray:
    probabilities, labels = guesses(5 * classes, classes, skill=4.0)
    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), classes)


def drawings(guesses):
    matrix = confusion(guesses, 20)
    return {
        "confusion": lambda path: plot_confusion(path, matrix, names(20)),
        "recall": lambda path: plots.plot_recall(path, metrics.class_scores(matrix), names(20)),
        "reliability": lambda path: plots.plot_reliability(path, metrics.reliability(*guesses(200, 40))),
        "history": lambda path: plots.plot_history(path, HISTORY),
    }


@pytest.mark.parametrize("name", ["confusion", "recall", "reliability", "history"])
def test_a_picture_drawn_twice_has_the_same_bytes_and_no_date_or_software(guesses, tmp_path, name):
    draw = drawings(guesses)[name]
    for folder in ("one", "two"):
        draw(tmp_path / folder / "picture.png")
    first = (tmp_path / "one/picture.png").read_bytes()
    assert first == (tmp_path / "two/picture.png").read_bytes()
    with Image.open(tmp_path / "one/picture.png") as image:
        assert image.format == "PNG"
        assert set(image.info) <= {"dpi"}
        assert 500 < image.width < 3200


@pytest.mark.parametrize(
    "classes", [2, 10, pytest.param(100, marks=pytest.mark.slow), 400, pytest.param(1000, marks=pytest.mark.slow)]
)
def test_a_confusion_matrix_fits_a_screen_and_shows_a_single_error_at_any_number_of_classes(tmp_path, classes):
    matrix = np.diag(np.full(classes, 9))
    matrix[0, classes // 2] = 1
    plot_confusion(tmp_path / "confusion.png", matrix, names(classes))
    with Image.open(tmp_path / "confusion.png") as image:
        assert 600 < min(image.size) <= max(image.size) < 3200
        left = np.asarray(image.convert("RGB")).astype(int)[:, : round(image.width * 0.6)]
    orange = left[..., 0] - left[..., 2] > 60
    assert orange.sum() >= 20, "the mark of one wrong photo is 20 pixels or more"


def test_classes_without_photos_and_a_perfect_model_are_drawn(tmp_path):
    matrix = np.diag([3, 0, 5])
    plot_confusion(tmp_path / "confusion.png", matrix, names(3))
    plots.plot_recall(tmp_path / "recall.png", metrics.class_scores(matrix), names(3))
    assert (tmp_path / "confusion.png").exists()
    assert (tmp_path / "recall.png").exists()


def test_a_history_of_one_epoch_without_accuracy_is_drawn(tmp_path):
    plots.plot_history(tmp_path / "history.png", HISTORY[["epoch", "train/loss"]].head(1))
    assert (tmp_path / "history.png").exists()


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    plots.plot_history(tmp_path / "history.png", HISTORY)
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded
