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

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """C."""
        return self.probabilities.shape[1]

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
        of_label = self.probabilities[np.arange(len(self)), self.labels]
        return np.maximum(of_label, np.finfo(self.probabilities.dtype).eps).astype(np.float64)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """N: the negative log-probability of the label, in nats."""
        return np.log(1 / self.label_probabilities)

    @cached_property
    def in_top5(self) -> NDArray[np.bool_]:
        """N: whether the label is among the five most probable classes."""
        return np.asarray((self.top_k(5) == self.labels[:, None]).any(axis=1))

    def top_k(self, k: int) -> Ints:
        """The k most probable classes per photo (all C if k > C), most probable first: N x min(k, C)."""
        return np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]


class Resample:
    """Some rows of a `Sample`, repeats included, with their counts per class: what a metric needs in one bootstrap resample."""

    def __init__(self, sample: Sample, rows: NDArray[np.int64] | slice) -> None:
        labels, predicted = sample.labels[rows], sample.predicted[rows]
        self.correct = labels == predicted
        self.in_top5, self.losses = sample.in_top5[rows], sample.losses[rows]
        counted = (labels[self.correct], labels, predicted)
        self.true_positives, self.support, self.num_predicted = (
            np.bincount(classes, minlength=sample.num_classes) for classes in counted
        )
        """C counts each: correct photos per class, photos per label, photos per predicted class."""
