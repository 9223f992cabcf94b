"""The map shows the first two principal components."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from plumage.evaluation.embedding import principal_components


def test_it_equals_an_svd_of_the_features_up_to_the_axes_signs() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)) + 5).astype(np.float32)
    found, pca = principal_components(features), PCA(2, svd_solver="full")
    expected = pca.fit_transform(features.astype(np.float64))
    signs = np.sign((found.points * expected).sum(axis=0))
    np.testing.assert_allclose(found.points * signs, expected, atol=1e-8)
    np.testing.assert_allclose(found.variance, pca.explained_variance_ratio_, atol=1e-10)


def test_points_on_a_line_have_all_their_variance_on_the_first_axis() -> None:
    steps = np.array([0.0, 1, 2, 7])
    found = principal_components(np.outer(steps, [0.6, 0.0, 0.8]))
    np.testing.assert_allclose(found.points[:, 0], steps - 2.5, atol=1e-12)
    np.testing.assert_allclose(found.points[:, 1], 0, atol=1e-7)
    np.testing.assert_allclose(found.variance, [1, 0], atol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(3, 4), (1, 5), (1, 1), (4, 1)])
def test_identical_photos_are_points_at_the_origin_without_variance(shape: tuple[int, int]) -> None:
    found = principal_components(np.full(shape, 0.1, np.float32))
    assert found.points.tolist() == [[0, 0]] * shape[0] and found.variance.tolist() == [0, 0]


@pytest.mark.filterwarnings("error")
def test_a_single_feature_has_no_second_axis() -> None:
    found = principal_components(np.array([[1.0], [3.0]]))
    np.testing.assert_allclose(found.points, [[-1, 0], [1, 0]])
    np.testing.assert_allclose(found.variance, [1, 0])
