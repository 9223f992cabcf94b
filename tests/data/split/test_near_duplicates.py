"""Near-duplicates are found after resizing, compression, cropping and changes of brightness; other photos are not."""

from pathlib import Path

import numpy as np
import pytest
from altered import CHANGES, cropped, resaved, resized, thumbnails
from PIL import Image
from support import read_all

from plumage.config import Split
from plumage.data.dataset.decode import decode
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.sample import draw_photo
from plumage.data.split.near_duplicates import connected, group_near_duplicates

SIMILARITY = Split().similarity
assert SIMILARITY is not None


def found(originals: list[Image.Image], change: str) -> tuple[float, float]:
    """The recall and precision, over pairs, of grouping each picture with its altered copy."""
    rng = np.random.default_rng(0)
    copies = [CHANGES[change][0](image, rng) for image in originals]
    count = len(originals)
    groups = group_near_duplicates(thumbnails([resaved(image) for image in originals] + copies), SIMILARITY)
    pairs = {(one, other) for group in groups for one in group for other in group if one < other}
    true = {pair for pair in pairs if pair[1] == pair[0] + count}
    return len(true) / count, len(true) / max(1, len(pairs))


@pytest.mark.parametrize("change", CHANGES)
def test_altered_copies_of_drawn_birds_are_grouped_with_the_originals_only(change: str) -> None:
    originals = [draw_photo(0, species, individual, 96) for species in range(20) for individual in range(10)]
    recall, precision = found(originals, change)
    assert recall >= CHANGES[change][1]
    assert precision >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_altered_copies_of_real_photos_are_grouped_with_the_originals(
    shared_data: Path, tmp_path: Path, change: str
) -> None:
    photos = read_all(ArchiveSource(shared_data / "cub100.tar", tmp_path / "scratch"))[::9]
    recall, precision = found([decode(photo.data) for photo in photos], change)
    assert recall >= CHANGES[change][1] - 0.03
    assert precision >= 0.99


def test_photos_without_contrast_are_not_grouped() -> None:
    plain = [resaved(Image.new("RGB", (64, 64), (shade, shade, shade))) for shade in range(0, 200, 10)]
    assert group_near_duplicates(thumbnails(plain), SIMILARITY) == []


def test_a_higher_similarity_groups_fewer_photos() -> None:
    image = draw_photo(0, 3, 1, 96)
    photos = [resaved(image), resaved(image, 60), resaved(cropped(image, 0.06, np.random.default_rng(1)))]
    assert group_near_duplicates(thumbnails(photos), 0.9) == [[0, 1, 2]]
    assert group_near_duplicates(thumbnails(photos), 0.9999) == []


def test_chains_are_one_group_and_groups_do_not_depend_on_order() -> None:
    rng = np.random.default_rng(2)
    images = [draw_photo(1, species, 0, 96) for species in range(12)]
    photos = [resaved(change) for image in images for change in (image, resized(image, 0.6), cropped(image, 0.03, rng))]
    order = rng.permutation(len(photos))
    groups = group_near_duplicates(thumbnails(photos), SIMILARITY)
    shuffled = group_near_duplicates(thumbnails([photos[row] for row in order]), SIMILARITY)
    assert groups == [[3 * n, 3 * n + 1, 3 * n + 2] for n in range(12)]
    assert sorted(sorted(int(order[row]) for row in group) for group in shuffled) == groups


def test_pairs_are_grouped_as_by_a_search_from_each_row() -> None:
    rng = np.random.default_rng(0)
    for nodes in rng.integers(2, 60, 200).tolist():
        pairs = np.unique(np.sort(rng.integers(0, nodes, (nodes // 2, 2)), axis=1), axis=0)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        groups, seen = [], set[int]()
        for first in np.unique(pairs).tolist():
            if first not in seen:
                reached, before = {first}, set[int]()
                while reached != before:
                    before = reached
                    reached = before | {row for pair in pairs.tolist() if before & {*pair} for row in pair}
                seen |= reached
                groups.append(sorted(reached))
        assert connected(pairs) == groups


def test_no_photos_have_no_groups() -> None:
    assert group_near_duplicates(np.empty((0, 256), np.uint8), SIMILARITY) == []


def test_candidates_with_similar_hashes_and_different_thumbnails_are_not_grouped() -> None:
    # All low frequencies have the same signs, under a different fine pattern.
    rng = np.random.default_rng(3)
    faint = np.kron(rng.normal(0, 3, (4, 4)), np.ones((4, 4)))
    checks = np.indices((16, 16)).sum(0) % 2 * 2 - 1
    images = [np.clip(128 + faint + sign * 90 * checks, 0, 255).astype(np.uint8) for sign in (1, -1)]
    assert group_near_duplicates(np.stack([image.ravel() for image in images]), SIMILARITY) == []
