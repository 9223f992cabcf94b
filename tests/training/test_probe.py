"""The probe is logistic regression at its optimum; l2 is chosen without val; whitening helps if classes vary alike."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from plumage.errors import TrainingError
from plumage.training.probe import L2_GRID, ProbeSettings, _whitening, fit_classifier

CLASSES, WIDTH = 5, 12
Labelled = tuple[torch.Tensor, torch.Tensor]


def clusters(per_class: int, seed: int, nuisance: float = 0.0) -> Labelled:
    """Classes that differ a little, in features that vary a lot along one direction."""
    rng = np.random.default_rng(seed)
    class_means = np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
    labels = np.repeat(np.arange(CLASSES), per_class)
    features = class_means[labels] + rng.normal(scale=0.7, size=(len(labels), WIDTH))
    features += nuisance * rng.normal(size=(len(labels), 1)) * np.ones(WIDTH)
    return torch.from_numpy(features).float(), torch.from_numpy(labels)


def fit(
    train: Labelled, val: Labelled, l2: float | None, shrinkage: float = 0.5
) -> tuple[nn.Linear, list[dict[str, float]]]:
    curve: list[dict[str, float]] = []
    classifier = nn.Linear(WIDTH, CLASSES)
    settings = ProbeSettings(l2, max_iterations=500, shrinkage=shrinkage)
    fit_classifier(classifier, [train], val, settings, lambda _, metrics: curve.append(metrics))
    return classifier, curve


def test_without_whitening_it_is_scikit_learns_logistic_regression() -> None:
    (features, labels), val = clusters(30, 1), clusters(30, 2)
    l2 = 0.05
    classifier, _ = fit((features, labels), val, l2, shrinkage=1.0)
    centred = (features - features.mean(0)).double().numpy()
    scale = np.sqrt((centred**2).mean())
    theirs = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-8, max_iter=5000)
    theirs.fit(centred / scale, labels.numpy())
    expected = theirs.predict_proba((val[0] - features.mean(0)).double().numpy() / scale)
    assert np.abs(classifier(val[0]).softmax(1).detach().numpy() - expected).max() < 5e-3


def test_the_curve_falls_to_the_fitted_classifiers_loss() -> None:
    train, val = clusters(30, 1), clusters(30, 2)
    classifier, curve = fit(train, val, None)
    assert curve[-1]["train/loss"] < curve[0]["train/loss"]
    loss = nn.functional.cross_entropy(classifier(val[0]), val[1]).item()
    assert curve[-1]["val/loss"] == pytest.approx(loss, rel=1e-3)


def test_l2_is_chosen_without_val(capsys: pytest.CaptureFixture[str]) -> None:
    train = clusters(40, 1)
    good, bad = clusters(30, 2), (torch.randn(9, WIDTH), torch.arange(9) % CLASSES)
    assert torch.equal(fit(train, good, None)[0].weight, fit(train, bad, None)[0].weight)
    output = capsys.readouterr().out
    assert any(f"l2 {l2:g}," in output for l2 in L2_GRID)


def test_the_chosen_classifier_is_calibrated() -> None:
    train, val = clusters(40, 1, nuisance=3), clusters(200, 2, nuisance=3)
    classifier, _ = fit(train, val, None)
    losses = [nn.functional.cross_entropy(classifier(val[0]) * factor, val[1]).item() for factor in (0.25, 1, 4)]
    assert losses[1] < 1.2 * min(losses)


def test_with_label_smoothing_no_other_scale_fits_the_smoothed_labels_better() -> None:
    features, labels = clusters(40, 1)
    classifier = nn.Linear(WIDTH, CLASSES)
    settings = ProbeSettings(max_iterations=500, shrinkage=1.0, label_smoothing=0.1)
    fit_classifier(classifier, [(features, labels)], clusters(30, 2), settings, lambda *_: None)

    def loss(factor: float) -> float:
        scaled = nn.functional.linear(features, classifier.weight * factor, classifier.bias * factor)
        return nn.functional.cross_entropy(scaled, labels, label_smoothing=0.1).item()

    assert loss(1) < min(loss(0.9), loss(1.1))


def test_separable_classes_do_not_lead_to_infinite_weights() -> None:
    features, labels = clusters(40, 1)
    features = features + 20 * nn.functional.one_hot(labels, WIDTH)
    classifier, curve = fit((features, labels), (features, labels), None)
    assert torch.isfinite(classifier.weight).all()
    assert curve[-1]["val/accuracy"] == 1 and 1e-6 < curve[-1]["val/loss"] < 0.1


@pytest.mark.parametrize("per_class", [1, 2, 30])
@pytest.mark.parametrize("shrinkage", [0.3, 1.0])
def test_whitened_features_have_a_shrunk_scatter_of_the_identity_with_fewer_photos_than_features_too(
    per_class: int, shrinkage: float
) -> None:
    features, labels = clusters(per_class, 1, nuisance=2)
    mean, matrix = _whitening(features, labels, CLASSES, shrinkage)
    centred = (features - mean).double().numpy()
    assert np.square(centred @ matrix.double().numpy()).mean() == pytest.approx(1, rel=1e-4)
    deviations = centred - np.stack([centred[labels == label].mean(0) for label in labels])
    within = deviations.T @ deviations / len(deviations)
    shrunk = (1 - shrinkage) * within + shrinkage * max(np.trace(within) / WIDTH, 1e-12) * np.eye(WIDTH)
    whitened = matrix.double().numpy() @ shrunk @ matrix.double().numpy()
    np.testing.assert_allclose(whitened / whitened[0, 0], np.eye(WIDTH), atol=1e-3)


def test_whitening_ignores_variation_within_classes() -> None:
    train, val = clusters(6, 1, nuisance=8), clusters(200, 2, nuisance=8)
    (_, plain), (_, whitened) = (fit(train, val, 0.1, shrinkage) for shrinkage in (1.0, 0.1))
    assert whitened[-1]["val/accuracy"] > plain[-1]["val/accuracy"] + 0.1


def test_features_that_are_not_finite_are_refused() -> None:
    features, labels = clusters(5, 1)
    features[3, 2] = float("nan")
    with pytest.raises(TrainingError, match="not finite"):
        fit((features, labels), (features, labels), None)
