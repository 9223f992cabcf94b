"""Plots: the same bytes for the same data, a size that fits a screen, any number of classes."""

import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix
from support import make_photo

from plumage.evaluation import plots
from plumage.evaluation.calibration import reliability
from plumage.evaluation.class_scores import class_scores
from plumage.evaluation.confusion import confusion_order
from plumage.evaluation.confusion_plot import plot_confusion
from plumage.evaluation.embedding import Embedding
from plumage.evaluation.example_photos import ExamplePhoto
from plumage.evaluation.sample import Sample
from plumage.evaluation.selective import coverage_curve

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


def some_photos(count: int) -> list[tuple[ExamplePhoto, str]]:
    heat = np.linspace(0, 1, 9, dtype=np.float32).reshape(3, 3)
    return [(ExamplePhoto(make_photo((60, 90, 200), i), heat), f"WREN\npredicted $OWL$, {i}%") for i in range(count)]


def drawings(make_sample):
    sample = make_sample(100, 20, skill=4.0)
    matrix = confusion_matrix(sample.labels, sample.predicted, labels=range(20))
    bins = {skill: reliability(make_sample(200, 40, skill=skill)) for skill in (1.0, 3.0)}
    curve = coverage_curve(make_sample(200, 40))
    cloud = Embedding(np.random.default_rng(0).normal(size=(300, 2)), np.array([0.3, 0.1]))
    return {
        "confusion": lambda path: plot_confusion(path, matrix, names(20), confusion_order(matrix)),
        "classes": lambda path: plots.plot_classes(path, class_scores(sample, names(20))),
        "reliability": lambda path: plots.plot_reliability(path, {"after": bins[1.0]}),
        "both": lambda path: plots.plot_reliability(path, {"before": bins[3.0], "after": bins[1.0]}),
        "coverage": lambda path: plots.plot_coverage(path, curve),
        "embedding": lambda path: plots.plot_embedding(path, cloud, np.arange(300) % 3 > 0),
        "photos": lambda path: plots.plot_photos(path, "Mistakes", some_photos(6)),
        "none": lambda path: plots.plot_photos(path, "Mistakes", []),
        "history": lambda path: plots.plot_history(path, HISTORY, best_epoch=2),
    }


PLOTS = ["confusion", "classes", "reliability", "both", "coverage", "embedding", "photos", "none", "history"]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_drawn_twice_has_the_same_bytes_and_no_date_or_software(make_sample, tmp_path, name):
    draw = drawings(make_sample)[name]
    for folder in ("one", "two"):
        draw(tmp_path / folder / "plot.png")
    first = (tmp_path / "one/plot.png").read_bytes()
    assert first == (tmp_path / "two/plot.png").read_bytes()
    with Image.open(tmp_path / "one/plot.png") as image:
        assert image.format == "PNG"
        assert set(image.info) <= {"dpi"}
        assert 500 < image.width < 3200


def test_the_heat_map_covers_the_second_copy_of_its_photo_where_it_is_hot(tmp_path):
    heat = np.zeros((4, 4), np.float32)
    heat[:2, :2] = 1
    plots.plot_photos(tmp_path / "photos.png", "Mistakes", [(ExamplePhoto(make_photo((60, 90, 200), 0), heat), "one")])
    pixels = np.asarray(Image.open(tmp_path / "photos.png").convert("RGB")).astype(int)
    red, blue = (pixels[..., 0] - pixels[..., 2] > 60), (pixels[..., 2] - pixels[..., 0] > 60)
    assert red.sum() > 1000
    assert np.argwhere(red).mean(axis=0)[0] < np.argwhere(blue).mean(axis=0)[0], "above"
    assert np.argwhere(red)[:, 1].min() > np.argwhere(blue)[:, 1].min(), "over the second copy"
    assert 2 < blue.sum() / red.sum() < 14, "a quarter of one copy; the rest is blue"


@pytest.mark.parametrize(
    "classes", [2, 10, pytest.param(100, marks=pytest.mark.slow), 400, pytest.param(1000, marks=pytest.mark.slow)]
)
def test_a_confusion_matrix_fits_a_screen_and_shows_a_single_error_with_any_number_of_classes(tmp_path, classes):
    matrix = np.diag(np.full(classes, 9))
    matrix[0, classes // 2] = 1
    plot_confusion(tmp_path / "confusion.png", matrix, names(classes), confusion_order(matrix))
    with Image.open(tmp_path / "confusion.png") as image:
        assert 600 < min(image.size) <= max(image.size) < 3200
        left = np.asarray(image.convert("RGB")).astype(int)[:, : round(image.width * 0.6)]
    orange = left[..., 0] - left[..., 2] > 60
    assert orange.sum() >= 20, "the mark of one error has 20 pixels or more"


def test_classes_without_photos_and_a_perfect_model_are_drawn(tmp_path):
    matrix = np.diag([3, 0, 5])
    plot_confusion(tmp_path / "confusion.png", matrix, names(3), confusion_order(matrix))
    labels = np.repeat([0, 2], [3, 5])
    plots.plot_classes(tmp_path / "classes.png", class_scores(Sample(labels, np.eye(3)[labels]), names(3)))
    assert (tmp_path / "confusion.png").exists()
    assert (tmp_path / "classes.png").exists()


def test_the_confusion_matrix_is_drawn_in_the_given_order(tmp_path):
    matrix = np.diag([9, 9, 9, 9])
    matrix[0, 3] = 9
    for name, order in (("far", [0, 1, 2, 3]), ("near", [0, 3, 1, 2])):
        plot_confusion(tmp_path / f"{name}.png", matrix, names(4), np.array(order))
    columns = {}
    for name in ("far", "near"):
        with Image.open(tmp_path / f"{name}.png") as image:
            left = np.asarray(image.convert("RGB")).astype(int)[:, : round(image.width * 0.6)]
        columns[name] = np.nonzero(left[..., 0] - left[..., 2] > 60)[1].mean()
    assert columns["near"] < columns["far"] - 50


def test_a_history_of_one_epoch_without_accuracy_is_drawn(tmp_path):
    plots.plot_history(tmp_path / "history.png", HISTORY[["epoch", "train/loss"]].head(1))
    assert (tmp_path / "history.png").exists()


def test_the_marked_epoch_is_the_one_that_the_weights_come_from(tmp_path, monkeypatch):
    labels = []
    monkeypatch.setattr(plots.Axes, "legend", lambda axes: labels.extend(axes.get_legend_handles_labels()[1]))
    equal = pd.DataFrame({"epoch": [1, 2, 3], "val/accuracy": [0.5, 0.75, 0.75]})  # the third has the lower loss
    plots.plot_history(tmp_path / "history.png", equal, best_epoch=3)
    assert labels == ["val", "best: 75.0%, epoch 3"]


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    plots.plot_history(tmp_path / "history.png", HISTORY)
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded
