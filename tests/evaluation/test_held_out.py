"""reports/folds.csv comes back as it was written; figures of folds agree with scikit-learn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from plumage.config import Evaluate
from plumage.data.dataset.store import Dataset
from plumage.errors import DataError
from plumage.evaluation.folds import describe_folds, folds_summary
from plumage.evaluation.held_out import HeldOut, read_held_out, write_held_out
from plumage.evaluation.sample import Sample


@pytest.fixture
def dataset(color_dataset: Callable[[int], Dataset]) -> Dataset:
    return color_dataset(5)


def held_out_of(dataset: Dataset) -> HeldOut:
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(dataset))
    targets = dataset.targets()[rows]
    logits = rng.normal(size=(len(rows), 4)) + 2 * np.eye(4)[targets]
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    probabilities[3] = 0.25  # equally probable: the first class is the predicted one
    return HeldOut([dataset.keys[row] for row in rows], np.arange(len(rows)) % 3 + 1, Sample(targets, probabilities))


def test_a_written_table_is_read_back_exactly(dataset: Dataset, tmp_path: Path) -> None:
    written = held_out_of(dataset)
    write_held_out(tmp_path / "folds.csv", written, dataset.classes)
    read = read_held_out(tmp_path / "folds.csv", dataset)
    assert read is not None and list(read.keys) == sorted(written.keys)
    order = np.argsort(written.keys)
    assert np.array_equal(read.folds, written.folds[order])
    assert np.array_equal(read.sample.labels, written.sample.labels[order])
    assert np.array_equal(read.sample.probabilities, written.sample.probabilities[order])


def test_an_empty_table_means_no_folds_and_one_of_other_photos_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("key,label,fold\n")
    assert read_held_out(path, dataset) is None
    written = held_out_of(dataset)
    write_held_out(path, written._replace(keys=[f"other/{key}" for key in written.keys]), dataset.classes)
    with pytest.raises(DataError, match="other photos than the data set; run `dvc repro folds`"):
        read_held_out(path, dataset)
    path.write_text("key,label,fold,prob_label\na.jpg,ORIOLE,1,0.5\n")
    with pytest.raises(DataError, match="not a table of held-out predictions"):
        read_held_out(path, dataset)


def test_figures_are_of_all_photos_and_of_each_fold(dataset: Dataset) -> None:
    held_out = held_out_of(dataset)
    figures = folds_summary(held_out, np.arange(len(held_out.keys)), Evaluate(bootstrap=100))
    labels, predicted = held_out.sample.labels, held_out.sample.predicted
    assert figures["k"] == 3 and figures["n"] == len(labels)
    assert figures["accuracy"] == pytest.approx(accuracy_score(labels, predicted), abs=1e-6)
    assert figures["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-6)
    assert figures["accuracy_ci95"]["low"] < figures["accuracy"] < figures["accuracy_ci95"]["high"]
    accuracies = [each["accuracy"] * each["n"] for each in figures["per_fold"].values()]
    assert sum(accuracies) / len(labels) == pytest.approx(figures["accuracy"], abs=1e-5)


def test_folds_are_advised_only_for_a_small_test_set() -> None:
    assert "evaluate.folds: 5" in describe_folds({"test": {"n": 24}})
    assert describe_folds({"test": {"n": 100}}) == ""
    folds = {"k": 5, "n": 240, "accuracy": 0.9417, "accuracy_ci95": {"low": 0.91, "high": 0.97}}
    said = describe_folds({"test": {"n": 24}, "folds": folds})
    assert said == "5 folds: accuracy 94.2% (95%: 91.0% to 97.0%), 240 photos, each held out once"
