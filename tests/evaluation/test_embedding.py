"""The map shows the first two principal components."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from plumage.evaluation.embedding import frame, principal_components


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


def test_one_odd_photo_takes_no_axis_and_the_frame_leaves_it_out() -> None:
    rng = np.random.default_rng(0)
    usual = rng.normal(size=(100, 12)) * np.linspace(3, 1, 12)
    odd = np.zeros((1, 12))
    odd[0, 11] = 1e4
    found, alone = principal_components(np.vstack([usual, odd])), principal_components(usual)
    np.testing.assert_allclose(found.points[:-1], alone.points, atol=1e-8)
    low, high = frame(np.vstack([found.points, [1e6, 0]]))
    assert (low == alone.points.min(axis=0)).all() and (high == alone.points.max(axis=0)).all()


def test_the_frame_of_a_few_or_equal_points_holds_them_all() -> None:
    for points in (np.zeros((3, 2)), np.array([[0.0, 0.0], [4.0, 1.0]]), np.array([[1.0, 2.0]])):
        low, high = frame(points)
        assert (low == points.min(axis=0)).all() and (high == points.max(axis=0)).all()
