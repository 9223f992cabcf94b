"""Tables that come back as they were written, whatever the classes are called."""

import numpy as np
import pandas as pd
import pytest

from plumage.evaluation import metrics, tables
from plumage.evaluation.slices import Slice

NAMES = ["A, B", 'Say "Tui"', "Æsop's jay", "NA", "line\nbreak", "鳥", "plain", "null"]


def read(path):
    return pd.read_csv(path, keep_default_na=False)


@pytest.fixture
def case(guesses):
    probabilities, labels = guesses(100, 8)
    confusion = metrics.confusion_matrix(labels, probabilities.argmax(axis=1), 8)
    return probabilities, labels, confusion


def test_the_confusion_table_holds_the_whole_matrix_and_no_empty_cell(case, tmp_path):
    *_, confusion = case
    tables.write_confusion(tmp_path / "confusion.csv", confusion, NAMES)
    table = read(tmp_path / "confusion.csv")
    assert list(table) == ["actual", "predicted", "count"]
    assert (table["count"] > 0).all()
    back = np.zeros_like(confusion)
    for actual, predicted, count in table.itertuples(index=False):
        back[NAMES.index(actual), NAMES.index(predicted)] = count
    np.testing.assert_array_equal(back, confusion)


def test_the_class_table_has_every_class_in_order_with_its_scores(case, tmp_path):
    scores, ranges = metrics.class_scores(case[2]), metrics.class_ranges(case[2])
    tables.write_per_class(tmp_path / "per_class.csv", scores, ranges, NAMES)
    table = read(tmp_path / "per_class.csv")
    assert list(table)[:5] == ["label", "precision", "recall", "f1", "support"]
    ends = [f"{name}_{end}" for name in ("precision", "recall", "f1") for end in ("low", "high")]
    assert list(table)[5:] == ends
    for name in ("precision", "recall", "f1"):
        assert (table[f"{name}_low"] <= table[name]).all() and (table[name] <= table[f"{name}_high"]).all()
    assert list(table["label"]) == NAMES
    np.testing.assert_allclose(table["f1"], scores.f1, atol=5e-7)
    np.testing.assert_array_equal(table["support"], scores.support)


def test_the_slices_table_says_how_each_slice_and_the_rest_do(tmp_path):
    parts = [Slice("brightness", 3, 80, 6, 10, 27, 30, 0.02), Slice("brightness", 81, 200, 27, 30, 6, 10, 1.0)]
    tables.write_slices(tmp_path / "slices.csv", parts)
    first, second = read(tmp_path / "slices.csv").to_dict("records")
    assert (first["slice"], first["low"], first["high"], first["n"], first["worse"]) == ("brightness", 3, 80, 10, 1)
    assert (first["accuracy"], first["rest_accuracy"]) == (0.6, 0.9)
    assert first["accuracy_low"] < 0.6 < first["accuracy_high"]
    assert second["worse"] == 0


def test_the_predictions_table_has_a_row_a_photo_by_key_and_its_top_5_in_order(case, tmp_path):
    probabilities, labels, _ = case
    keys = [f"photo {number}, {number * 7919 % 100}.jpg" for number in range(100, 0, -1)]
    tables.write_predictions(tmp_path / "predictions.csv", keys, labels, probabilities, NAMES)
    table = read(tmp_path / "predictions.csv")
    ranks = [column for rank in range(1, 6) for column in (f"pred_{rank}", f"prob_{rank}")]
    assert list(table) == ["key", "label", "prob_label", *ranks]
    assert list(table["key"]) == sorted(keys)
    row = table.iloc[17]
    photo = keys.index(row["key"])
    assert row["label"] == NAMES[labels[photo]]
    assert row["prob_label"] == pytest.approx(probabilities[photo, labels[photo]], abs=5e-7)
    order = np.argsort(-probabilities[photo])[:5]
    assert [row[f"pred_{rank}"] for rank in range(1, 6)] == [NAMES[index] for index in order]
    assert [row[f"prob_{rank}"] for rank in range(1, 6)] == pytest.approx(list(probabilities[photo, order]), abs=5e-7)


def test_with_three_classes_the_predictions_table_ranks_three(guesses, tmp_path):
    probabilities, labels = guesses(10, 3)
    tables.write_predictions(tmp_path / "p.csv", [f"{i}" for i in range(10)], labels, probabilities, ["a", "b", "c"])
    assert list(read(tmp_path / "p.csv"))[-2:] == ["pred_3", "prob_3"]
