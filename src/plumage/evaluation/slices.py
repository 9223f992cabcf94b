"""Which kinds of photos a model does worse on: by size, brightness, sharpness, and how common their class was in training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

GROUPS = 4
"""Of about equally many photos; fewer where many photos have the same value."""
LEVEL = 0.05


class Slice(NamedTuple):
    """Photos whose `what` is from `low` to `high`, and how the model does on them and on the rest."""

    what: str
    low: float
    high: float
    right: int
    photos: int
    rest_right: int
    rest_photos: int
    p_value: float
    """That so many more of its photos are wrong by chance (Fisher 1922, exact, one-sided), for all slices at once (Holm 1979)."""

    @property
    def worse(self) -> bool:
        """Whether it is significantly worse than the rest."""
        return self.p_value < LEVEL

    def __str__(self) -> str:
        mine, others = self.right / self.photos, self.rest_right / self.rest_photos
        return (
            f"{self.what} {self.low:.4g} to {self.high:.4g}: accuracy {mine:.3f} of {self.photos:,} photos, {others:.3f} of the others "
            f"(p = {self.p_value:.2g})"
        )


def find_slices(values: Mapping[str, NDArray[Any]], right: NDArray[np.bool_]) -> list[Slice]:
    """The slices by each of `values`, N numbers, of N photos of which `right` were: in order of `values`, then of size."""
    found: list[Slice] = []
    for what, value in values.items():
        edges = np.unique(np.quantile(value, np.arange(1, GROUPS) / GROUPS, method="lower"))
        group = np.searchsorted(edges, value, side="left")  # a value at an edge is below it
        for number in np.unique(group) if len(np.unique(group)) > 1 else []:
            inside = group == number
            hits, photos = int(right[inside].sum()), int(inside.sum())
            rest_hits, rest = int(right[~inside].sum()), int((~inside).sum())
            table = [[photos - hits, hits], [rest - rest_hits, rest_hits]]
            p_value = float(fisher_exact(table, alternative="greater").pvalue)
            low, high = float(value[inside].min()), float(value[inside].max())
            found.append(Slice(what, low, high, hits, photos, rest_hits, rest, p_value))
    return [part._replace(p_value=p) for part, p in zip(found, _holm([part.p_value for part in found]), strict=True)]


def _holm(p_values: list[float]) -> list[float]:
    """Adjusted so that under all true nulls at once one below LEVEL is as rare as LEVEL."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.sort(p_values) * np.arange(len(order), 0, -1))
    result: list[float] = np.minimum(adjusted, 1).tolist()
    return result


def sharpness(views: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The variance of the Laplacian of each photo's luma (Pech-Pacheco et al. 2000), of N x H x W x 3 views: N, blurred ones low."""
    luma = views @ np.array([299, 587, 114], np.int32)
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    variance: NDArray[np.float64] = (around - 4 * luma[:, 1:-1, 1:-1]).reshape(len(views), -1).var(axis=1) / 1e6
    return variance
