"""Slices: kinds of photos on which a model is worse, by size, brightness, sharpness, and photos of their class in training."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from plumage.common.figures import share
from plumage.evaluation.intervals import effective_trials, exact
from plumage.evaluation.sample import Ints

GROUPS = 4  # slices per property, of about equally many photos; fewer where many photos share a value
ALPHA = 0.05  # chance of a false alarm over all slices together


class Slice(NamedTuple):
    """Photos whose `name` lies between `low` and `high`, compared with the rest."""

    name: str
    low: float
    high: float
    num_correct: int
    num_samples: int
    rest_correct: int
    rest_samples: int
    p_value: float  # one-sided exact test (Fisher 1922) against the rest, corrected for all slices (Holm 1979)
    effective_samples: float | None = None  # independent photos that `num_samples` are worth; None: as many

    @property
    def worse(self) -> bool:
        """Whether it is significantly worse than the rest."""
        return self.p_value < ALPHA

    def __str__(self) -> str:
        accuracy, rest_accuracy = self.num_correct / self.num_samples, self.rest_correct / self.rest_samples
        return (
            f"{self.name} {self.low:.4g} to {self.high:.4g}: accuracy {share(accuracy, self.num_samples)} on {self.num_samples:,} photos, "
            f"{share(rest_accuracy, self.rest_samples)} on the others (p = {self.p_value:.2g})"
        )


def find_slices(
    properties: Mapping[str, NDArray[Any]], correct: NDArray[np.bool_], groups: Ints | None = None
) -> list[Slice]:
    """The slices of N photos by each property, N values per name; `correct` says which photos the model gets right.

    Near-duplicates share a number of `groups`, and count as one photo (None: there are none).
    """
    groups = np.arange(len(correct)) if groups is None else groups
    found: list[Slice] = []
    for name, values in properties.items():
        edges = np.unique(np.quantile(values, np.arange(1, GROUPS) / GROUPS, method="lower"))
        group = np.searchsorted(edges, values, side="left")  # a value at an edge belongs below it
        for number in np.unique(group) if len(np.unique(group)) > 1 else []:
            found.append(_slice(name, values, group == number, correct, groups))
    adjusted = _holm([each.p_value for each in found])
    return [each._replace(p_value=p_value) for each, p_value in zip(found, adjusted, strict=True)]


def _slice(
    name: str, values: NDArray[Any], inside: NDArray[np.bool_], correct: NDArray[np.bool_], groups: Ints
) -> Slice:
    """The photos `inside` against the rest; the p-value is not yet corrected."""
    num_correct, num_samples = int(correct[inside].sum()), int(inside.sum())
    rest_correct, rest_samples = int(correct[~inside].sum()), int((~inside).sum())
    rest, effective = effective_trials(inside.astype(np.int64), groups, 2)
    table = np.array([[num_samples - num_correct, num_correct], [rest_samples - rest_correct, rest_correct]])
    table = np.rint(table * [[effective / num_samples], [rest / rest_samples]]).astype(np.int64)
    p_value = float(fisher_exact(table, alternative="greater").pvalue)
    low, high = float(values[inside].min()), float(values[inside].max())
    return Slice(name, low, high, num_correct, num_samples, rest_correct, rest_samples, p_value, float(effective))


def _holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values: if no slice is worse, one below ALPHA occurs at a rate of at most ALPHA."""
    order, adjusted = np.argsort(p_values, kind="stable"), np.empty(len(p_values))
    adjusted[order] = np.maximum.accumulate(np.sort(p_values) * np.arange(len(order), 0, -1))
    result: list[float] = np.minimum(adjusted, 1).tolist()
    return result


def slice_table(slices: Sequence[Slice]) -> pd.DataFrame:
    """reports/slices.csv, one row per slice.

    Columns: slice, low, high, n, accuracy, accuracy_low, accuracy_high, rest_accuracy, p_value, worse (0 or 1).
    """
    correct = np.array([each.num_correct for each in slices], np.int64)
    samples = np.array([each.num_samples for each in slices], np.int64)
    effective = np.array(
        [each.num_samples if each.effective_samples is None else each.effective_samples for each in slices]
    )
    low, high = exact(correct / samples * effective, effective)
    columns = {
        "slice": [each.name for each in slices],
        "low": [each.low for each in slices],
        "high": [each.high for each in slices],
        "n": samples,
        "accuracy": correct / samples,
        "accuracy_low": low,
        "accuracy_high": high,
        "rest_accuracy": [each.rest_correct / each.rest_samples for each in slices],
        "p_value": [each.p_value for each in slices],
        "worse": [int(each.worse) for each in slices],
    }
    return pd.DataFrame(columns)


def sharpness(views: NDArray[np.uint8]) -> NDArray[np.float64]:
    """N variances of the Laplacian of the luma (Pech-Pacheco et al. 2000) of N x H x W x 3 views; low for blurred photos."""
    luma = views @ np.array([299, 587, 114], np.int32)
    neighbours = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    laplacian = (neighbours - 4 * luma[:, 1:-1, 1:-1]).reshape(len(views), -1)
    variance: NDArray[np.float64] = laplacian.var(axis=1) / 1e6
    return variance
