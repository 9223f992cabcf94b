"""Scores of each class equal scikit-learn's and lie within their intervals."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from plumage.evaluation.class_scores import class_scores
from plumage.evaluation.sample import Sample


def test_scores_equal_scikit_learn_s_also_for_classes_without_photos(make_sample):
    sample = make_sample(80, 60, skill=1.0)
    table = class_scores(sample, [f"class {number}" for number in range(60)])
    expected = sklearn_metrics.precision_recall_fscore_support(
        sample.labels, sample.predicted, labels=range(60), zero_division=0
    )
    assert (table["support"] == 0).any()
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(table[name], values)


def test_every_class_has_a_row_in_class_order_with_its_scores_inside_their_intervals(make_sample):
    sample, names = make_sample(100, 8), [f"class {number}" for number in range(8)]
    table = class_scores(sample, names)
    ends = [f"{name}_{end}" for name in ("precision", "recall", "f1") for end in ("low", "high")]
    assert list(table) == ["label", "precision", "recall", "f1", "support", *ends]
    assert list(table["label"]) == names
    for name in ("precision", "recall", "f1"):
        assert (table[f"{name}_low"] <= table[name]).all() and (table[name] <= table[f"{name}_high"]).all()


def test_support_is_a_whole_number_even_if_every_prediction_is_wrong():
    sample = Sample(np.array([0, 1, 2]), np.eye(3)[[1, 2, 0]], bins=15)
    assert class_scores(sample, list("abc"))["support"].tolist() == [1, 1, 1]
    assert class_scores(sample, list("abc"))["support"].dtype == np.int64  # scikit-learn returns floats here


@pytest.mark.parametrize("skill", [0.0, 2.0])
def test_f1_is_the_harmonic_mean_of_precision_and_recall(make_sample, skill):
    table = class_scores(make_sample(200, 8, skill=skill), list("abcdefgh"))
    total = table["precision"] + table["recall"]
    expected = 2 * table["precision"] * table["recall"] / total.where(total > 0, 1)
    np.testing.assert_allclose(table["f1"], expected)
