"""Temperature scaling finds the temperature with the lowest log loss, if there are photos enough to tell."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from support import calibrated_logits

from plumage.training.temperature import fit_temperature


def log_loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    return -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_over_and_underconfidence(factor):
    logits, labels = calibrated_logits(8000, 10)
    assert fit_temperature((factor * logits).astype(np.float32), labels) == pytest.approx(factor, rel=0.03)


def test_with_many_photos_no_other_temperature_has_a_lower_loss():
    logits, labels = calibrated_logits(2000, 20)
    best = log_loss(2 * logits, labels, fit_temperature(2 * logits, labels))
    assert all(best < log_loss(2 * logits, labels, temperature) for temperature in (0.5, 1, 1.5, 1.8, 2.2, 3))


def test_12_correct_photos_hardly_make_the_model_more_certain():
    logits = 4 * np.eye(6)[np.arange(12) % 6]  # each is correct with a probability of 92%
    temperature = fit_temperature(logits, np.arange(12) % 6)
    assert 0.75 < temperature < 1
    unlike = softmax(np.array([2.2, 0, 0.5, 0.3, 0.1, -1]) / temperature)  # 63% at temperature 1
    assert unlike.max() < 0.75


def test_few_photos_don_t_make_the_log_loss_on_others_worse_than_without_temperature():
    rng, gains = np.random.default_rng(0), []
    logits, labels = calibrated_logits(20_000, 6)
    for count in (6, 12, 24):
        for _ in range(100):
            val = rng.integers(0, len(labels), count)
            gains.append(
                log_loss(logits, labels, fit_temperature(logits[val], labels[val])) - log_loss(logits, labels, 1)
            )
    assert np.mean(gains) < 0.01 and np.max(gains) < 0.1


@pytest.mark.parametrize("classes", [1, 2, 6])
def test_the_temperature_is_finite_whatever_the_photos(classes):
    logits = 10 * np.eye(classes, dtype=np.float32)[np.arange(12) % classes]
    right = np.arange(12) % classes
    cases = {
        "all correct": (logits, right),
        "all wrong": (logits, (right + 1) % classes),
        "one photo": (logits[:1], right[:1]),
        "one class": (logits[right == 0], right[right == 0]),
        "no photo": (logits[:0], right[:0]),
        "infinite logits": (np.where(logits > 0, np.inf, logits), right),
        "a logit of minus infinity": (np.where(logits > 0, logits, -np.inf), right),
        "huge logits": (logits * 1e30, right),
        "equal logits": (np.zeros_like(logits), right),
    }
    for name, case in cases.items():
        with np.errstate(all="raise", under="ignore"):
            assert 0.05 <= fit_temperature(*case) <= 20, name
    assert fit_temperature(*cases["no photo"]) == fit_temperature(*cases["infinite logits"]) == 1
    assert fit_temperature(*cases["all wrong"]) > 1 or classes == 1
