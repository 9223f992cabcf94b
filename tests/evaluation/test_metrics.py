"""Every figure equals scikit-learn's or torchmetrics' on random predictions, and a hand's on a tiny case."""

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from plumage.evaluation import metrics

CASES = [(500, 12, 0), (300, 40, 1), (2000, 400, 2), (60, 3, 3)]


@pytest.mark.parametrize(("photos", "classes", "seed"), CASES)
def test_the_summary_agrees_with_scikit_learn_and_torchmetrics(guesses, photos, classes, seed):
    probabilities, labels = guesses(photos, classes, seed)
    every, predicted = range(classes), probabilities.argmax(axis=1)
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)  # scikit-learn wants sums of 1
    ece = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels), classes, n_bins=15)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "top5_accuracy": sk.top_k_accuracy_score(labels, probabilities, k=5, labels=every) if classes > 5 else 1.0,
        "macro_f1": sk.f1_score(labels, predicted, labels=every, average="macro", zero_division=0),
        "loss": sk.log_loss(labels, exact, labels=every),
        "ece": float(ece),
        "n": photos,
    }
    result = metrics.summary(probabilities, labels, resamples=100)
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=2e-6)


def test_the_scores_of_each_class_agree_with_scikit_learn_where_some_have_no_photo(guesses):
    probabilities, labels = guesses(80, 60, skill=1.0)
    predicted = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predicted, 60)
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(labels, predicted, labels=range(60)))
    expected = sk.precision_recall_fscore_support(labels, predicted, labels=range(60), zero_division=0)
    scores = metrics.class_scores(confusion)
    assert (scores.support == 0).any()
    for ours, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_four_photos_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]])
    labels = np.array([0, 1, 1, 2])  # predicted 0, 0, 1, 1
    result = metrics.summary(probabilities, labels, ece_bins=2)
    assert result["accuracy"] == 0.5
    assert result["top5_accuracy"] == 1.0, "with three classes the top 5 are all"
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-6)
    assert result["loss"] == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.3]).mean(), abs=1e-6)
    # (0, 0.5] holds the last photo, wrong; (0.5, 1] the others, 2 of 3 right at a mean confidence of 0.7
    assert result["ece"] == pytest.approx(0.25 * 0.5 + 0.75 * abs(2 / 3 - 0.7), abs=1e-6)
    assert metrics.confused_pairs(metrics.confusion_matrix(labels, probabilities.argmax(axis=1), 3), 5) == [
        (1, 0, 1),
        (2, 1, 1),
    ]


def test_the_summary_is_plain_json_with_an_interval_around_each_of_the_first_three(guesses):
    result = json.loads(json.dumps(metrics.summary(*guesses(200, 20), resamples=100), allow_nan=False))
    for name in ("accuracy", "top5_accuracy", "macro_f1"):
        assert result[f"{name}_ci95"]["low"] <= result[name] <= result[f"{name}_ci95"]["high"]


def test_certain_and_right_is_a_perfect_summary_and_certain_and_wrong_a_finite_one():
    certain = np.eye(3, dtype=np.float32)
    right = metrics.summary(certain, np.array([0, 1, 2]))
    assert (right["accuracy"], right["macro_f1"], right["loss"], right["ece"]) == (1, 1, 0, 0)
    wrong = metrics.summary(certain, np.array([1, 2, 0]))
    assert wrong["ece"] == 1
    assert np.isfinite(wrong["loss"])


def test_of_equal_probabilities_the_first_class_is_predicted_everywhere():
    probabilities, labels = np.full((2, 8), 1 / 8), np.array([0, 7])
    np.testing.assert_array_equal(metrics.top_k(probabilities, 5)[0], [0, 1, 2, 3, 4])
    assert metrics.accuracy(probabilities, labels) == 0.5
    assert metrics.summary(probabilities, labels, resamples=100)["top5_accuracy"] == 0.5


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_and_one_just_over_1_to_the_last():
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [1.0000001, 0.0], [0.51, 0.49]])
    bins = metrics.reliability(probabilities, np.zeros(4, dtype=np.int64), bins=4)
    np.testing.assert_array_equal(bins.count, [0, 1, 2, 1])
