"""Temperature scaling finds the temperature with the lowest log loss."""

import numpy as np
import pytest
from scipy.special import log_softmax
from support import calibrated_logits

from plumage.training.temperature import fit_temperature


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_undoes_over_and_underconfidence(factor):
    logits, labels = calibrated_logits(20_000, 8)
    assert fit_temperature((factor * logits).astype(np.float32), labels) == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_has_a_lower_loss():
    logits, labels = calibrated_logits(500, 6)
    best = fit_temperature(2 * logits, labels)

    def loss(temperature: float) -> float:
        return -log_softmax(2 * logits / temperature, axis=1)[np.arange(500), labels].mean()

    assert all(loss(best) <= loss(best * factor) for factor in (0.9, 0.99, 1.01, 1.1))


def test_the_temperature_is_finite_when_all_are_correct_all_are_wrong_or_there_are_no_photos():
    logits = np.eye(4, dtype=np.float32)
    assert 0.05 <= fit_temperature(logits, np.arange(4)) < 0.06
    assert 19 < fit_temperature(logits, (np.arange(4) + 1) % 4) <= 20
    assert fit_temperature(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)) == 1
