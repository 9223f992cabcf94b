"""A model on its test photos: everything that the pictures and the page show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plumage.evaluation.confusion_order import confusion_order
from plumage.evaluation.embedding import Embedding, principal_components
from plumage.evaluation.example_photos import ShownPhoto
from plumage.evaluation.examples import Gallery
from plumage.evaluation.metrics import Floats, Ints, Reliability, confusion_matrix


@dataclass(frozen=True)
class EvaluationResult:
    """N test photos of C classes, and what a model makes of them. Photos are by their place, 0..N-1, classes by 0..C-1."""

    title: str
    metrics: Mapping[str, Any]
    """What reports/metrics.json holds."""
    parts: Mapping[str, int]
    """Photos of each part of the split."""
    classes: Sequence[str]
    keys: Sequence[str]
    """N."""
    labels: Ints
    """N."""
    probabilities: Floats
    """N x C, calibrated."""
    features: Floats
    """N x F, pooled."""
    per_class: pd.DataFrame
    """reports/per_class.csv: a row a class, in class order."""
    slices: pd.DataFrame
    """reports/slices.csv: a row a slice."""
    reliability: Mapping[str, Reliability]
    """By a short name of the model's state: before its calibration, where there is one, and after."""
    coverage: tuple[Floats, Floats]
    """K shares of photos answered, ascending, and the accuracy of each."""
    history: pd.DataFrame
    """reports/history.csv."""
    gallery: Gallery
    photos: Mapping[int, ShownPhoto]
    """All that the gallery names, each with the Grad-CAM of its predicted class."""
    model: Mapping[str, Any]
    """What the model is: names and values."""
    params: Mapping[str, Any]
    """`section.key` and value."""

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """N predicted classes."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """C x C counts: the row is the actual class, the column the predicted one."""
        return confusion_matrix(self.labels, self.predicted, len(self.classes))

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The C classes, confused ones beside one another."""
        return confusion_order(self.confusion)

    @cached_property
    def embedding(self) -> Embedding:
        """The photos in a plane."""
        return principal_components(self.features)
