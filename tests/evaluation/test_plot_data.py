"""The data of `dvc plots` holds what its templates can show."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from plumage.evaluation.sample import Sample
from plumage.evaluation.write_plots import write_plot_data


def written(folder: Path, labels: np.ndarray, predicted: np.ndarray, count: int) -> dict[str, pd.DataFrame]:
    names = [f"class {number:03d}" for number in range(count)]
    sample = Sample(labels, np.eye(count)[predicted] * 0.7 + 0.3 / count, bins=10)
    write_plot_data(folder / "plot_data", sample, names, confusion_matrix(labels, predicted))
    return {path.stem: pd.read_csv(path) for path in (folder / "plot_data").iterdir()}


def test_with_up_to_30_classes_every_photo_is_in_the_confusion_table(tmp_path: Path) -> None:
    labels = np.arange(30).repeat(4)
    predicted = np.where(np.arange(120) % 4 == 0, (labels + 1) % 30, labels)
    tables = written(tmp_path, labels, predicted, 30)
    assert len(tables["confusion"]) == 120
    assert list(tables["confusion"]) == ["actual", "predicted"]
    assert tables["confusion"].iloc[0].tolist() == ["class 000", "class 001"]


def test_with_more_classes_it_holds_the_most_confused_ones(tmp_path: Path) -> None:
    labels = np.arange(400).repeat(5)
    predicted = labels.copy()
    predicted[labels == 397] = 200
    predicted[np.flatnonzero(labels == 17)[:2]] = 397
    confusion = written(tmp_path, labels, predicted, 400)["confusion"]
    classes = set(confusion["actual"]) | set(confusion["predicted"])
    assert {"class 397", "class 200", "class 017"} <= classes and len(classes) == 30
    pairs = confusion[confusion["actual"] != confusion["predicted"]].value_counts().to_dict()
    assert pairs == {("class 397", "class 200"): 5, ("class 017", "class 397"): 2}


@pytest.mark.parametrize("count", [3, 50])
def test_reliability_has_one_row_per_bin_with_photos(tmp_path: Path, count: int) -> None:
    labels = np.arange(count).repeat(3)
    predicted = np.where(labels == 1, 2, labels)
    tables = written(tmp_path, labels, predicted, count)
    assert tables["reliability"]["photos"].tolist() == [3 * count]
    assert tables["reliability"]["accuracy"].tolist() == [pytest.approx(1 - 1 / count, abs=1e-6)]


def test_a_perfect_model_of_many_classes_still_has_30_classes_in_the_table(tmp_path: Path) -> None:
    confusion = written(tmp_path, np.arange(100), np.arange(100), 100)["confusion"]
    assert len(confusion) == 30 and (confusion["actual"] == confusion["predicted"]).all()
