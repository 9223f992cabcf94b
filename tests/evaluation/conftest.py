"""Predictions that look like a classifier's: mostly right, some pairs of classes confused."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def guesses() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """guesses(photos, classes, seed=0, skill=2.0) -> N x C float32 probabilities and N labels, classes uneven."""

    def make(photos: int, classes: int, seed: int = 0, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        labels = (classes * rng.random(photos) ** 1.5).astype(np.int64)
        logits = rng.normal(size=(photos, classes))
        logits[np.arange(photos), labels] += skill
        odds = np.exp(logits)
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), labels

    return make
