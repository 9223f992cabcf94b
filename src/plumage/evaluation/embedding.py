"""Principal components: the test photos as points in a plane, by their features."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from plumage.evaluation.sample import Floats


class Embedding(NamedTuple):
    """N points, and the share of the features' variance along each of the two axes."""

    points: NDArray[np.float64]  # N x 2
    variance: NDArray[np.float64]  # 2 shares, 0 to 1, the larger first


def principal_components(features: Floats) -> Embedding:
    """The first two principal components of N x F features (Pearson 1901), largest loading positive; 0 on a missing axis."""
    points, variance = np.zeros((len(features), 2)), np.zeros(2)
    if (features != features[0]).any():
        count = min(2, features.shape[1])
        # The eigenvectors of the F x F covariance take a tenth of the time of decomposing all N rows.
        pca = PCA(count, svd_solver="covariance_eigh")
        points[:, :count] = pca.fit_transform(features.astype(np.float64))
        variance[:count] = pca.explained_variance_ratio_
    return Embedding(points, variance)
