"""The map's axes are the principal components."""

import numpy as np
from sklearn.decomposition import PCA

from plumage.evaluation.embedding import principal_components


def test_it_is_scikit_learn_s_pca_up_to_the_axes_signs() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12)) + 5).astype(np.float32)
    found, pca = principal_components(features), PCA(2)
    expected = pca.fit_transform(features.astype(np.float64))
    signs = np.sign((found.points * expected).sum(axis=0))
    np.testing.assert_allclose(found.points * signs, expected, atol=1e-8)
    np.testing.assert_allclose(found.variance, pca.explained_variance_ratio_, atol=1e-10)


def test_points_on_a_line_lie_on_the_first_axis_and_it_has_all_of_the_variance() -> None:
    steps = np.array([0.0, 1, 2, 7])
    found = principal_components(np.outer(steps, [0.6, 0.0, 0.8]))
    np.testing.assert_allclose(found.points[:, 0], steps - 2.5, atol=1e-12)
    np.testing.assert_allclose(found.points[:, 1], 0, atol=1e-7)
    np.testing.assert_allclose(found.variance, [1, 0], atol=1e-12)


def test_photos_that_are_all_alike_and_a_single_feature_are_points_too() -> None:
    same = principal_components(np.ones((3, 4), np.float32))
    assert same.points.tolist() == [[0, 0]] * 3 and same.variance.tolist() == [0, 0]
    single = principal_components(np.array([[1.0], [3.0]]))
    np.testing.assert_allclose(single.points, [[-1, 0], [1, 0]])
