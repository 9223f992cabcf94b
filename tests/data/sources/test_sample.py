"""The drawn sample: repeatable, scalable, with twins, and not separable by colour alone."""

import io

import numpy as np
import pytest
from PIL import Image
from support import read_all

from plumage.common.workers import map_in_processes
from plumage.data.sources.birds.painter import paint
from plumage.data.sources.birds.species import BLOCK, COLOURS, MIN_DIFFERENCE, SHAPES, TWINS, Species, species_table
from plumage.data.sources.photo import Chunk, Photo
from plumage.data.sources.sample import SampleSource, draw_photo


def _pixels(seed: int, species: int, individual: int, size: int) -> np.ndarray:
    return np.asarray(draw_photo(seed, species, individual, size), np.float32)


def test_the_same_parameters_give_the_same_bytes_with_any_number_of_processes() -> None:
    source = SampleSource(species=4, images_per_species=3, image_size=48, seed=5)
    alone = read_all(source)
    assert alone == [photo for photos in map_in_processes(_run, source.chunks(), processes=2) for photo in photos]
    keys = [f"{label}/{i:04d}.jpg" for label in source.classes for i in range(3)]
    assert [photo.key for photo in alone] == keys
    assert {photo.split for photo in alone} == {None} and len(alone) == len(source) == 12


def _run(chunk: Chunk) -> list[Photo]:
    return chunk()


def test_a_small_sample_is_a_subset_of_a_large_one() -> None:
    small = SampleSource(species=4, images_per_species=2, image_size=32, seed=0)
    large = SampleSource(species=7, images_per_species=5, image_size=32, seed=0)
    photos = {photo.key: photo.data for photo in read_all(large)}
    assert all(photos[photo.key] == photo.data for photo in read_all(small))
    assert species_table(1000)[:12] == species_table(12)


def test_another_seed_draws_other_photos_of_the_same_species() -> None:
    first, second = (SampleSource(species=4, images_per_species=1, image_size=32, seed=seed) for seed in (0, 1))
    assert first.classes == second.classes
    assert all(a.data != b.data for a, b in zip(read_all(first), read_all(second), strict=True))


def test_a_thousand_species_differ_in_name_and_traits() -> None:
    table = species_table(1000)
    assert len({row.name for row in table}) == len({row.traits for row in table}) == 1000
    assert all(row.name == row.name.upper() and len(row.name.split()) >= 3 for row in table)
    traits = np.array([row.traits for row in table])
    for k, row in enumerate(traits):
        block, slot = divmod(k, BLOCK)
        different = (traits[:k] != row).sum(axis=1)
        if slot in TWINS:
            twin = block * BLOCK + TWINS[slot]
            assert different[twin] == 1, f"species {k} and {twin} should differ in one trait"
            different = np.delete(different, twin)
        assert different.min(initial=MIN_DIFFERENCE) >= MIN_DIFFERENCE, f"species {k} is close to another"


def test_the_trait_that_twins_differ_in_is_visible_in_the_photo() -> None:
    """The same individual drawn as either twin at 96 pixels: at least 1 pixel in 250 changes, and most don't."""
    table = species_table(200)
    for block in range(0, 20, 2):
        for slot, other in TWINS.items():
            pair = table[block * BLOCK + slot], table[block * BLOCK + other]
            changed = np.median([_changed(*pair, individual) for individual in range(5)])
            assert 0.004 < changed < 0.3, f"{pair[0].name} and {pair[1].name}: {changed:.4f} of the photo differs"


def _changed(a: Species, b: Species, individual: int) -> float:
    first, second = (np.asarray(paint(row, (0, 0, individual), 96), np.float32) for row in (a, b))
    return float((np.abs(first - second).sum(axis=2) > 40).mean())


def test_individuals_of_a_species_differ_in_place_direction_light_and_background() -> None:
    photos = np.stack([_pixels(0, 4, i, 48) for i in range(40)])
    corners = photos[:, :6, :6].mean(axis=(1, 2))
    assert corners.std(axis=0).min() > 25
    assert photos.mean(axis=(1, 2, 3)).std() > 15
    assert np.abs(photos - photos[:, :, ::-1]).mean() > 10


@pytest.mark.parametrize("size", [32, 64, 96, 128, 224])
def test_every_size_is_drawn_and_shows_the_same_picture(size: int) -> None:
    photo = draw_photo(3, 6, 2, size)
    assert photo.size == (size, size) and photo.mode == "RGB"
    coarse = [image.resize((8, 8), Image.Resampling.BOX) for image in (photo, draw_photo(3, 6, 2, 128))]
    assert np.abs(np.subtract(*(np.asarray(image, np.float32) for image in coarse))).mean() < 12


@pytest.mark.parametrize("species", [4, 400, 1000])
def test_it_scales_to_a_thousand_species_without_drawing_ahead(species: int) -> None:
    source = SampleSource(species=species, images_per_species=146, image_size=32, seed=0)
    assert len(source) == species * 146 and len(source.classes) == species
    photos = next(iter(source.chunks()))()[:2]
    assert Image.open(io.BytesIO(photos[0].data)).size == (32, 32)
    assert draw_photo(0, species - 1, 0, 32).size == (32, 32)


def test_every_shape_and_colour_is_used() -> None:
    table = species_table(1000)
    assert {row.shape for row in table} == set(SHAPES)
    assert {colour for row in table for colour in (row.crown, row.back, row.wing, row.breast)} == set(COLOURS)


@pytest.mark.slow
def test_colour_histograms_do_not_separate_the_default_species() -> None:
    """Logistic regression on joint RGB histograms (8 x 8 x 8), plain or square-rooted, stays under 0.6."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedShuffleSplit
    from sklearn.preprocessing import StandardScaler

    source = SampleSource(species=10, images_per_species=150, image_size=96, seed=0)
    photos = read_all(source)
    labels = np.array([source.classes.index(photo.label) for photo in photos])
    counts = np.stack([_histogram(photo.data) for photo in photos])
    train, test = next(StratifiedShuffleSplit(1, test_size=0.15, random_state=0).split(counts, labels))
    for features in (counts, np.sqrt(counts)):
        scaled = StandardScaler().fit(features[train]).transform(features)
        for strength in (1e-3, 3e-2, 1.0):
            model = LogisticRegression(C=strength, max_iter=200).fit(scaled[train], labels[train])
            accuracy = model.score(scaled[test], labels[test])
            assert 2 / 10 < accuracy < 0.6, f"C={strength}: {accuracy:.3f}"


def _histogram(data: bytes) -> np.ndarray:
    binned = np.asarray(Image.open(io.BytesIO(data)), np.int64) // 32
    return np.bincount((binned @ (64, 8, 1)).ravel(), minlength=512) / binned[..., 0].size
