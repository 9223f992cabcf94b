"""Principal components: the test photos as points in a plane, by their features, on a scale that a few outliers don't set."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from plumage.evaluation.sample import Floats


class Embedding(NamedTuple):
    """N points, and the share of the features' variance along each of the two axes."""

    points: NDArray[np.float64]  # N x 2
    variance: NDArray[np.float64]  # 2 shares, 0 to 1, the larger first


OUTLIER = 6
"""A photo is an outlier if it is this many times as far from the middle as the median photo."""
WHISKERS = 3
"""The map covers the middle half of the points and this many times its width on either side (Tukey's outer fences)."""


def frame(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower left and upper right corner (x, y) of the part of the plane to show: all points, or those within Tukey's fences."""
    first, third = np.quantile(points, [0.25, 0.75], axis=0)
    reach = WHISKERS * (third - first)
    inside = points[((points >= first - reach) & (points <= third + reach)).all(axis=1)]
    inside = inside if len(inside) else points
    return inside.min(axis=0), inside.max(axis=0)


def principal_components(features: Floats) -> Embedding:
    """The first two principal components of N x F features (Pearson 1901), largest loading positive; 0 on a missing axis.

    They are those of the photos that are no outliers: one odd photo would take an axis for itself.
    """
    points, variance = np.zeros((len(features), 2)), np.zeros(2)
    if (features != features[0]).any():
        count = min(2, features.shape[1])
        exact = features.astype(np.float64)
        usual = exact[_usual(exact)]
        # Of many photos, the eigenvectors of the F x F covariance take a tenth of the time of decomposing all rows; of few, the reverse.
        pca = PCA(count, svd_solver="covariance_eigh" if len(usual) > usual.shape[1] else "full")
        with threadpool_limits(
            1
        ):  # LAPACK's threads wait for each other: beside other processes two take 15 times as long as one
            points[:, :count] = pca.fit(usual).transform(exact)
        variance[:count] = pca.explained_variance_ratio_
    return Embedding(points, variance)


def _usual(features: NDArray[np.float64]) -> NDArray[np.bool_]:
    """N: which photos are no outliers."""
    distance = np.linalg.norm(features - np.median(features, axis=0), axis=1)
    usual: NDArray[np.bool_] = distance <= OUTLIER * np.median(distance)
    return usual if (features[usual] != features[usual][:1]).any() else np.ones(len(features), bool)
