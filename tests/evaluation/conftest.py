"""Random predictions that look like a classifier's, mostly correct, some pairs of classes confused; and reports of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from report_pages import CLASSES, make_result, written

from plumage.evaluation.result import EvaluationResult
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


@pytest.fixture(scope="session")
def result(make_sample) -> EvaluationResult:
    """90 photos in six classes."""
    return make_result(make_sample(90, 6, skill=1.5), CLASSES)


@pytest.fixture(scope="session")
def page(result: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(result, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="session")
def many(make_sample) -> EvaluationResult:
    """400 photos in 24 classes, more than the table of the confusion matrix has."""
    return make_result(make_sample(400, 24, skill=2.5), [*CLASSES, *(f"Bird {number}" for number in range(18))])


@pytest.fixture(scope="session")
def page_of_many(many: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(many, tmp_path_factory.mktemp("many"))
