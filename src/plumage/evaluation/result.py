"""EvaluationResult: a model's predictions on its test photos and what follows from them, for tables, plots and the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from plumage.evaluation.calibration import Reliability, reliability
from plumage.evaluation.class_scores import class_scores
from plumage.evaluation.confusion import confusion_order
from plumage.evaluation.embedding import Embedding, principal_components
from plumage.evaluation.example_photos import ExamplePhoto
from plumage.evaluation.examples import Examples
from plumage.evaluation.provenance import UNKNOWN, Provenance
from plumage.evaluation.sample import Floats, Sample
from plumage.evaluation.selective import CoverageCurve, coverage_curve


class LabelError(NamedTuple):
    """A photo of any split whose label is likely wrong."""

    key: str
    label: str
    suggested: str
    score: float  # the higher, the more likely
    picture: bytes = b""  # WebP; empty if the report has no room for it


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """N test photos of C classes. Photos go by their index, 0 to N - 1, classes by theirs, 0 to C - 1."""

    title: str
    metrics: Mapping[str, Any]  # content of reports/metrics.json
    split_sizes: Mapping[str, int]  # number of photos per split
    classes: Sequence[str]
    keys: Sequence[str]  # N keys of the photos
    sample: Sample  # labels and calibrated probabilities
    uncalibrated: Sample  # labels and the probabilities at temperature 1
    features: Floats  # N x F, pooled
    slices: pd.DataFrame  # reports/slices.csv: one row per slice
    history: pd.DataFrame  # reports/history.csv: one row per epoch
    examples: Examples
    example_photos: Mapping[int, ExamplePhoto]  # those that `examples` names, each with its predicted class's Grad-CAM
    model: Mapping[str, Any]  # properties of the model: architecture, preprocessing, temperature
    params: Mapping[str, Any]  # parameters as `section.key`
    train_counts: NDArray[np.int64]  # C: training photos per class
    typical_side: int  # the photos' median shorter side in pixels
    thumbnails: Mapping[int, bytes]  # small pictures (WebP) of test photos, mistakes before others
    best_epoch: int | None = None  # the one that the weights come from, from 1
    label_errors: Sequence[LabelError] = ()  # photos whose label is likely wrong, the most likely first
    provenance: Provenance = UNKNOWN

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """C x C counts. Row: actual class; column: predicted class."""
        number = np.arange(len(self.classes))
        return np.asarray(confusion_matrix(self.sample.labels, self.sample.predicted, labels=number))

    @cached_property
    def class_order(self) -> NDArray[np.int64]:
        """The C classes, those confused with each other side by side."""
        return confusion_order(self.confusion)

    @cached_property
    def class_scores(self) -> pd.DataFrame:
        """reports/per_class.csv: one row per class, in class order."""
        return class_scores(self.sample, self.classes)

    @cached_property
    def reliability(self) -> dict[str, Reliability]:
        """Reliability before and after calibration."""
        return {"before calibration": reliability(self.uncalibrated), "after": reliability(self.sample)}

    @cached_property
    def coverage(self) -> CoverageCurve:
        """Accuracy against coverage."""
        return coverage_curve(self.sample)

    @cached_property
    def embedding(self) -> Embedding:
        """The photos in a plane, by their features."""
        return principal_components(self.features)
