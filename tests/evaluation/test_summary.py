"""Every metric agrees with scikit-learn or torchmetrics on random predictions, and by hand on a tiny case."""

import json

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error

from plumage.evaluation.sample import Sample
from plumage.evaluation.summary import calibration_summary, summary

CASES = [(500, 12, 0), (300, 40, 1), (2000, 400, 2), (60, 3, 3)]


@pytest.mark.parametrize(("num_samples", "num_classes", "seed"), CASES)
def test_the_summary_agrees_with_scikit_learn_and_torchmetrics(make_sample, num_samples, num_classes, seed):
    sample = make_sample(num_samples, num_classes, seed)
    labels, probabilities, predicted = sample.labels, sample.probabilities, sample.predicted
    classes = range(num_classes)
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)  # scikit-learn wants sums of 1
    ece = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes, n_bins=15
    )
    present = np.unique(labels)
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.recall_score(labels, predicted, labels=present, average="macro", zero_division=0),
        "top5_accuracy": sk.top_k_accuracy_score(labels, probabilities, k=5, labels=classes)
        if num_classes > 5
        else 1.0,
        "macro_f1": sk.f1_score(labels, predicted, labels=classes, average="macro", zero_division=0),
        "loss": sk.log_loss(labels, exact, labels=classes),
        "ece": float(ece),
        "brier": sk.brier_score_loss(labels, exact, labels=classes),
        "n": num_samples,
    }
    result = summary(sample, resamples=100)
    assert {name: result[name] for name in expected} == pytest.approx(expected, abs=2e-6)


def test_balanced_accuracy_is_scikit_learns(make_sample):
    sample = make_sample(400, 10)
    expected = sk.balanced_accuracy_score(sample.labels, sample.predicted)
    assert summary(sample, resamples=100)["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_four_photos_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.5, 0.3]])
    labels = np.array([0, 1, 1, 2])  # predicted 0, 0, 1, 1
    result = summary(Sample(labels, probabilities, bins=2), resamples=100)
    assert result["accuracy"] == 0.5
    assert result["balanced_accuracy"] == 0.5, "recalls 1, 1/2 and 0"
    assert result["top5_accuracy"] == 1.0, "all three classes are in the top 5"
    assert result["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3, abs=1e-6)
    assert result["loss"] == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.3]).mean(), abs=1e-6)
    # (0, 0.5] holds the last photo, wrong; (0.5, 1] the others, 2 of 3 correct with a mean confidence of 0.7
    assert result["ece"] == pytest.approx(0.25 * 0.5 + 0.75 * abs(2 / 3 - 0.7), abs=1e-6)
    # halves by confidence: 0.5 and 0.6, both wrong; 0.7 and 0.8, both correct
    assert result["adaptive_ece"] == pytest.approx((0.55 + 0.25) / 2, abs=1e-6)
    squares = [0.09 + 0.04 + 0.01, 0.36 + 0.49 + 0.01, 0.01 + 0.04 + 0.01, 0.04 + 0.25 + 0.49]
    assert result["brier"] == pytest.approx(sum(squares) / 4, abs=1e-6)


def test_the_summary_is_plain_json_with_an_interval_around_each_metric_that_has_one(make_sample):
    result = json.loads(json.dumps(summary(make_sample(200, 20), resamples=100), allow_nan=False))
    for name in ("accuracy", "balanced_accuracy", "top5_accuracy", "macro_f1", "loss"):
        assert result[f"{name}_ci95"]["low"] < result[name] < result[f"{name}_ci95"]["high"]


def test_certain_predictions_are_perfect_if_correct_and_have_a_finite_loss_if_wrong():
    certain = np.eye(3, dtype=np.float32)
    correct = summary(Sample(np.array([0, 1, 2]), certain), resamples=100)
    assert (correct["accuracy"], correct["macro_f1"], correct["loss"], correct["ece"]) == (1, 1, 0, 0)
    assert (correct["adaptive_ece"], correct["brier"]) == (0, 0)
    wrong = calibration_summary(Sample(np.array([1, 2, 0]), certain))
    assert (wrong["ece"], wrong["adaptive_ece"], wrong["brier"]) == (1, 1, 2)
    assert np.isfinite(wrong["loss"])
