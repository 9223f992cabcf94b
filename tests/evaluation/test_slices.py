"""A kind of photo that a model does worse on is named, and chance names none."""

import numpy as np
from scipy.ndimage import gaussian_filter

from plumage.evaluation.slices import find_slices, sharpness


def test_the_slice_that_is_worse_is_named_and_no_other():
    rng = np.random.default_rng(0)
    brightness, size = rng.integers(0, 256, 800), rng.integers(50, 300, 800)
    right = rng.random(800) < np.where(brightness < 64, 0.6, 0.95)
    slices = find_slices({"brightness": brightness, "size": size}, right)
    assert [(part.what, part.low < 64) for part in slices if part.worse] == [("brightness", True)]
    (worse,) = (str(part) for part in slices if part.worse)
    assert worse.startswith("brightness 0 to 6") and "of the others (p = " in worse
    assert len(slices) == 8
    for part in slices:
        inside = ({"brightness": brightness, "size": size}[part.what] >= part.low) & (
            {"brightness": brightness, "size": size}[part.what] <= part.high
        )
        assert (part.photos, part.right) == (inside.sum(), right[inside].sum())
        assert part.rest_photos == 800 - part.photos and part.rest_right == right[~inside].sum()


def test_where_nothing_is_worse_a_slice_is_named_at_most_once_in_twenty_evaluations():
    rng, named = np.random.default_rng(0), 0
    for _ in range(300):
        values = {"a": rng.normal(size=200), "b": rng.normal(size=200), "c": rng.integers(0, 5, 200)}
        named += any(part.worse for part in find_slices(values, rng.random(200) < 0.85))
    assert named <= 0.05 * 300 + 8


def test_photos_of_one_size_have_no_slices_by_it_and_few_values_few_slices():
    right = np.array([True, False] * 20)
    assert find_slices({"size": np.full(40, 224)}, right) == []
    assert [part.photos for part in find_slices({"size": np.repeat([96, 224], 20)}, right)] == [20, 20]


def test_a_blurred_photo_is_less_sharp():
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    views = [photo, *(gaussian_filter(photo, (sigma, sigma, 0)) for sigma in (1, 3))]
    sharp, soft, softest = sharpness(np.stack(views))
    assert sharp > soft > softest > 0
