"""Tables read back as written, whatever the classes are called."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix

from plumage.evaluation.class_scores import class_scores
from plumage.evaluation.slices import Slice, slice_table
from plumage.evaluation.tables import confusion_table, predictions_table, write_table

NAMES = ["A, B", 'Say "Tui"', "Æsop's jay", "NA", "line\nbreak", "鳥", "plain", "null"]


@pytest.fixture
def reread(tmp_path):
    """Write a table as CSV and read it back."""

    def write_and_read(table: pd.DataFrame) -> pd.DataFrame:
        write_table(tmp_path / "table.csv", table)
        return pd.read_csv(tmp_path / "table.csv", keep_default_na=False)

    return write_and_read


@pytest.fixture
def sample(make_sample):
    return make_sample(100, 8)


def test_the_confusion_table_holds_the_whole_matrix_and_no_empty_cell(sample, reread):
    confusion = confusion_matrix(sample.labels, sample.predicted)
    table = reread(confusion_table(confusion, NAMES))
    assert list(table) == ["actual", "predicted", "count"]
    assert (table["count"] > 0).all()
    back = np.zeros_like(confusion)
    for actual, predicted, count in table.itertuples(index=False):
        back[NAMES.index(actual), NAMES.index(predicted)] = count
    np.testing.assert_array_equal(back, confusion)


def test_the_class_table_has_every_class_in_order_with_its_scores(sample, reread):
    scores = class_scores(sample, NAMES)
    table = reread(scores)
    assert list(table) == list(scores)
    assert list(table["label"]) == NAMES
    np.testing.assert_allclose(table["f1"], scores["f1"], atol=5e-7)
    np.testing.assert_array_equal(table["support"], scores["support"])


def test_the_slices_table_has_the_accuracy_of_each_slice_and_of_the_rest(reread):
    parts = [Slice("brightness", 3, 80, 6, 10, 27, 30, 0.02), Slice("brightness", 81, 200, 27, 30, 6, 10, 1.0)]
    first, second = reread(slice_table(parts)).to_dict("records")
    assert (first["slice"], first["low"], first["high"], first["n"], first["worse"]) == ("brightness", 3, 80, 10, 1)
    assert (first["accuracy"], first["rest_accuracy"]) == (0.6, 0.9)
    assert first["accuracy_low"] < 0.6 < first["accuracy_high"]
    assert second["worse"] == 0


def test_the_predictions_table_has_one_row_per_photo_sorted_by_key_with_its_top_5(sample, reread):
    probabilities, labels = sample.probabilities, sample.labels
    keys = [f"photo {number}, {number * 7919 % 100}.jpg" for number in range(100, 0, -1)]
    table = reread(predictions_table(sample, keys, NAMES))
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


def test_with_three_classes_the_predictions_table_ranks_three(make_sample, reread):
    table = reread(predictions_table(make_sample(10, 3), [f"{i}" for i in range(10)], ["a", "b", "c"]))
    assert list(table)[-2:] == ["pred_3", "prob_3"]
