"""Slices on which a model is worse are found, and chance finds at most 1 in 20."""

import numpy as np
from scipy.ndimage import gaussian_filter

from plumage.evaluation.slices import find_slices, sharpness


def test_only_the_worse_slice_is_found():
    rng = np.random.default_rng(0)
    brightness, size = rng.integers(0, 256, 800), rng.integers(50, 300, 800)
    correct = rng.random(800) < np.where(brightness < 64, 0.6, 0.95)
    slices = find_slices({"brightness": brightness, "size": size}, correct)
    assert [(part.name, part.low < 64) for part in slices if part.worse] == [("brightness", True)]
    (worse,) = (str(part) for part in slices if part.worse)
    assert worse.startswith("brightness 0 to 6") and "on the others (p = " in worse
    assert len(slices) == 8
    for part in slices:
        inside = ({"brightness": brightness, "size": size}[part.name] >= part.low) & (
            {"brightness": brightness, "size": size}[part.name] <= part.high
        )
        assert (part.num_samples, part.num_correct) == (inside.sum(), correct[inside].sum())
        assert part.rest_samples == 800 - part.num_samples and part.rest_correct == correct[~inside].sum()


def test_if_no_slice_is_worse_one_is_found_in_at_most_1_of_20_evaluations():
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(300):
        values = {"a": rng.normal(size=200), "b": rng.normal(size=200), "c": rng.integers(0, 5, 200)}
        alarms += any(part.worse for part in find_slices(values, rng.random(200) < 0.85))
    assert alarms <= 0.05 * 300 + 8


def test_one_value_gives_no_slices_and_two_values_two():
    correct = np.array([True, False] * 20)
    assert find_slices({"size": np.full(40, 224)}, correct) == []
    assert [part.num_samples for part in find_slices({"size": np.repeat([96, 224], 20)}, correct)] == [20, 20]


def test_a_blurred_photo_is_less_sharp():
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    views = [photo, *(gaussian_filter(photo, (sigma, sigma, 0)) for sigma in (1, 3))]
    sharp, soft, softest = sharpness(np.stack(views))
    assert sharp > soft > softest > 0
