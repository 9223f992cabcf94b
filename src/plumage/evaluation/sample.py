"""Labels and predicted probabilities of the photos that a model is evaluated on: the input of every metric."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Sample:
    """N photos of C classes. The predicted class is the most probable one; of equally probable classes, the first."""

    labels: Ints  # N, each 0 to C - 1
    probabilities: Floats  # N x C, rows sum to 1
    bins: int = 15  # confidence bins of the calibration errors
    groups: Ints | None = None  # N: near-duplicates share a number; None: no two photos are near-duplicates

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """C."""
        return self.probabilities.shape[1]

    @cached_property
    def group_of(self) -> NDArray[np.int64]:
        """N group numbers, from 0 up without gaps: a photo's near-duplicates share its own."""
        groups = np.arange(len(self)) if self.groups is None else self.groups
        return np.unique(groups, return_inverse=True)[1].reshape(-1)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """N predicted classes."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """N: whether the predicted class is the label."""
        return self.predicted == self.labels

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """N: the probability of the predicted class."""
        return self.probabilities.max(axis=1).astype(np.float64)

    @cached_property
    def label_probabilities(self) -> NDArray[np.float64]:
        """N: the probability of the label, at least the float type's epsilon, so that one certain error has a finite loss."""
        return self._positive(self.probabilities[np.arange(len(self)), self.labels])

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """N: the negative log-probability of the label, in nats."""
        return np.log(1 / self.label_probabilities)

    @cached_property
    def runner_up_losses(self) -> NDArray[np.float64]:
        """N: the loss of each photo if its label were the second most probable class; 0 with one class."""
        if self.num_classes == 1:
            return np.zeros(len(self))
        return -np.log(self._positive(np.partition(self.probabilities, -2, axis=1)[:, -2]))

    @cached_property
    def in_top5(self) -> NDArray[np.bool_]:
        """N: whether the label is among the five most probable classes."""
        return np.asarray((self.top_k(5) == self.labels[:, None]).any(axis=1))

    def top_k(self, k: int) -> Ints:
        """The k most probable classes per photo (all C if k > C), most probable first: N x min(k, C)."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]

    def _positive(self, probabilities: Floats) -> NDArray[np.float64]:
        return np.maximum(probabilities, np.finfo(self.probabilities.dtype).eps).astype(np.float64)
