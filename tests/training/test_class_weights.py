"""Class weights follow their formulas, act as repeated photos would, and leave reported losses as they are."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from plumage.config import Train
from plumage.training.class_weights import BETA, class_weights
from plumage.training.context import TrainingContext
from plumage.training.gradients import GradientAccumulator
from plumage.training.probe import ProbeSettings, fit_classifier

LABELS = torch.tensor([0] * 12 + [1] * 6 + [2] * 2)
CPU = torch.device("cpu")


def test_balanced_weights_are_scikit_learns() -> None:
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    assert class_weights("balanced", LABELS, 3).tolist() == pytest.approx(theirs)


def test_effective_weights_lie_between_none_and_balanced() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([3000, 300, 30]))
    weights = class_weights("effective", labels, 3)
    numbers = [(1 - BETA**count) / (1 - BETA) for count in (3000, 300, 30)]
    assert (weights / weights[0]).tolist() == pytest.approx([numbers[0] / number for number in numbers], rel=1e-5)
    balanced = class_weights("balanced", labels, 3)
    assert 1 < weights[2] / weights[0] < balanced[2] / balanced[0]


@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_the_mean_weight_of_a_photo_is_one_and_an_unseen_class_has_none(kind: Any) -> None:
    weights = class_weights(kind, LABELS, 4)
    assert weights[LABELS].mean().item() == pytest.approx(1)
    assert weights[3] == 0
    assert class_weights("none", LABELS, 4) is None


def gradient(inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, float]:
    net = nn.Linear(3, 3)
    nn.init.constant_(net.weight, 0.1)
    nn.init.zeros_(net.bias)
    train = Train(precision="fp32", epochs=1, label_smoothing=0.1).resolved()
    passes = GradientAccumulator(net, TrainingContext(train, CPU, class_weights=weights))
    loss, _ = passes.accumulate(iter([(inputs, labels)]), 1, len(labels))
    return net.weight.grad, loss.item() / len(labels)


def test_a_weight_of_three_is_three_times_the_same_photo() -> None:
    inputs, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 2])
    weighted, loss = gradient(inputs, labels, torch.tensor([1.0, 1.0, 3.0]))
    rows = [0, 1, 2, 2, 2, 3, 3, 3]
    repeated, _ = gradient(inputs[rows], labels[rows], None)
    torch.testing.assert_close(weighted * 4, repeated * 8)
    assert loss == pytest.approx(gradient(inputs, labels, None)[1], rel=1e-6), "the reported loss has no weights"


def test_a_weighted_probe_is_scikit_learns_weighted_logistic_regression() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(LABELS), 4, generator=generator) + nn.functional.one_hot(LABELS, 4)
    classifier, l2, curve = nn.Linear(4, 3), 0.05, []
    settings = ProbeSettings(l2, max_iterations=500, shrinkage=1.0)
    weights = class_weights("balanced", LABELS, 3)
    val = (features, LABELS)
    fit_classifier(classifier, [val], val, settings, lambda _, metrics: curve.append(metrics), weights)
    centred = (features - features.mean(0)).double().numpy()
    scale = np.sqrt((centred**2).mean())
    theirs = LogisticRegression(C=1 / (l2 * len(LABELS)), class_weight="balanced", tol=1e-8, max_iter=5000)
    theirs.fit(centred / scale, LABELS.numpy())
    expected = theirs.predict_proba(centred / scale)
    assert np.abs(classifier(features).softmax(1).detach().numpy() - expected).max() < 5e-3
    unweighted = nn.functional.cross_entropy(classifier(features), LABELS).item()
    assert curve[-1]["val/loss"] == pytest.approx(unweighted, rel=1e-3)
