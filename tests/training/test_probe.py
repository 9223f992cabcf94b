"""The probe is logistic regression, solved; its penalty is chosen without val; whitening helps where classes vary alike."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from plumage.errors import TrainingError
from plumage.training.probe import PENALTIES, fit_classifier

CLASSES, WIDTH = 5, 12
Labelled = tuple[torch.Tensor, torch.Tensor]


def clusters(per_class: int, seed: int, nuisance: float = 0.0) -> Labelled:
    """Classes that differ a little, in features that vary a lot along one direction."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
    labels = np.repeat(np.arange(CLASSES), per_class)
    features = centres[labels] + rng.normal(scale=0.7, size=(len(labels), WIDTH))
    features += nuisance * rng.normal(size=(len(labels), 1)) * np.ones(WIDTH)
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def fit(
    train: Labelled, val: Labelled, penalty: float | None, shrinkage: float = 0.5
) -> tuple[nn.Linear, list[dict[str, float]]]:
    told: list[dict[str, float]] = []
    classifier = nn.Linear(WIDTH, CLASSES)
    fit_classifier(classifier, [train], val, penalty, 500, lambda _, metrics: told.append(metrics), shrinkage)
    return classifier, told


def test_without_whitening_it_is_scikit_learns_logistic_regression() -> None:
    (features, labels), val = clusters(30, 1), clusters(30, 2)
    penalty = 0.05
    classifier, _ = fit((features, labels), val, penalty, shrinkage=1.0)
    centred = (features - features.mean(0)).double().numpy()
    scale = np.sqrt((centred**2).mean())
    theirs = LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-8, max_iter=5000)
    theirs.fit(centred / scale, labels.numpy())
    expected = theirs.predict_proba((val[0] - features.mean(0)).double().numpy() / scale)
    assert np.abs(classifier(val[0]).softmax(1).detach().numpy() - expected).max() < 5e-3


def test_the_curve_falls_and_ends_at_what_the_classifier_gives() -> None:
    train, val = clusters(30, 1), clusters(30, 2)
    classifier, told = fit(train, val, None)
    assert told[-1]["train/loss"] < told[0]["train/loss"]
    loss = nn.functional.cross_entropy(classifier(val[0]), val[1]).item()
    assert told[-1]["val/loss"] == pytest.approx(loss, rel=1e-3)


def test_the_penalty_is_chosen_without_val(capsys: pytest.CaptureFixture[str]) -> None:
    train = clusters(40, 1)
    good, bad = clusters(30, 2), (torch.randn(9, WIDTH), torch.arange(9) % CLASSES)
    assert torch.equal(fit(train, good, None)[0].weight, fit(train, bad, None)[0].weight)
    said = capsys.readouterr().out
    assert any(f"penalty {penalty:g}," in said for penalty in PENALTIES)


def test_what_is_chosen_is_sure_where_it_is_right_and_no_more() -> None:
    train, val = clusters(40, 1, nuisance=3), clusters(200, 2, nuisance=3)
    classifier, _ = fit(train, val, None)
    losses = [nn.functional.cross_entropy(classifier(val[0]) * factor, val[1]).item() for factor in (0.25, 1, 4)]
    assert losses[1] < 1.2 * min(losses)


def test_with_smoothed_labels_no_other_scale_is_better_for_them() -> None:
    features, labels = clusters(40, 1)
    classifier = nn.Linear(WIDTH, CLASSES)
    fit_classifier(classifier, [(features, labels)], clusters(30, 2), None, 500, lambda *_: None, 1.0, 0.1)

    def loss(factor: float) -> float:
        scaled = nn.functional.linear(features, classifier.weight * factor, classifier.bias * factor)
        return nn.functional.cross_entropy(scaled, labels, label_smoothing=0.1).item()

    assert loss(1) < min(loss(0.9), loss(1.1))


def test_classes_that_are_all_told_apart_do_not_end_in_endless_weights() -> None:
    features, labels = clusters(40, 1)
    features = features + 20 * nn.functional.one_hot(labels, WIDTH)
    classifier, told = fit((features, labels), (features, labels), None)
    assert torch.isfinite(classifier.weight).all()
    assert told[-1]["val/accuracy"] == 1 and 1e-6 < told[-1]["val/loss"] < 0.1


def test_whitening_sees_past_what_varies_within_classes() -> None:
    train, val = clusters(6, 1, nuisance=8), clusters(200, 2, nuisance=8)
    (_, plain), (_, whitened) = (fit(train, val, 0.1, shrinkage) for shrinkage in (1.0, 0.1))
    assert whitened[-1]["val/accuracy"] > plain[-1]["val/accuracy"] + 0.1


def test_features_that_are_no_numbers_are_refused() -> None:
    features, labels = clusters(5, 1)
    features[3, 2] = float("nan")
    with pytest.raises(TrainingError, match="no finite numbers"):
        fit((features, labels), (features, labels), None)
