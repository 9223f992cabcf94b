"""Random predictions that look like a classifier's: mostly correct, some pairs of classes confused."""

from collections.abc import Callable

import numpy as np
import pytest

from plumage.evaluation.sample import Sample


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Sample]:
    """make_sample(num_samples, num_classes, seed=0, skill=2.0, bins=15) -> a Sample with classes of uneven size."""

    def make(num_samples: int, num_classes: int, seed: int = 0, skill: float = 2.0, bins: int = 15) -> Sample:
        rng = np.random.default_rng(seed)
        labels = (num_classes * rng.random(num_samples) ** 1.5).astype(np.int64)
        logits = rng.normal(size=(num_samples, num_classes))
        logits[np.arange(num_samples), labels] += skill
        odds = np.exp(logits)
        return Sample(labels, (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), bins)

    return make
