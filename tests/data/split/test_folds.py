"""Folds: each photo is held out once, near-duplicates together, classes evenly; too few photos are named."""

import hashlib
from collections import Counter

import pytest

from plumage.data.split.folds import draw_folds
from plumage.data.split.stratified import Photos, stratified_split
from plumage.errors import DataError


def photos_of(counts: dict[str, int], groups: list[list[int]] | None = None) -> Photos:
    labels = [label for label, count in counts.items() for _ in range(count)]
    keys = [f"{row}.jpg" for row in range(len(labels))]
    return Photos(keys, labels, [hashlib.sha256(key.encode()).digest() for key in keys], groups or [])


def split_of(photos: Photos) -> dict[str, list[int]]:
    splits = stratified_split(photos, 0.1, 0.2, 0)
    return {name: [row for row, split in enumerate(splits) if split == name] for name in ("train", "val", "test")}


def test_each_photo_is_held_out_once_and_classes_are_spread_evenly() -> None:
    photos = photos_of({"finch": 40, "jay": 20, "wren": 11})
    folds, small = draw_folds(photos, split_of(photos), 5, 0)
    assert sorted(row for fold in folds for row in fold["test"]) == list(range(71))
    assert not small
    for fold in folds:
        assert sorted(row for part in fold.values() for row in part) == list(range(71))
        held_out = Counter(photos.labels[row] for row in fold["test"])
        assert held_out["finch"] == 8 and held_out["jay"] == 4 and held_out["wren"] in (2, 3)
        assert Counter(photos.labels[row] for row in fold["val"]).keys() == {"finch", "jay", "wren"}


def test_near_duplicates_are_never_on_both_sides() -> None:
    groups = [[0, 1, 2, 3], [10, 11], [19, 20, 21], [39, 40]]  # the last two show several classes
    photos = photos_of({"finch": 20, "jay": 20, "wren": 10}, groups)
    for fold in draw_folds(photos, split_of(photos), 5, 3).folds:
        part_of = {row: name for name, part in fold.items() for row in part}
        assert all(len({part_of[row] for row in group}) == 1 for group in groups)


def test_the_seed_decides_and_long_seeds_are_taken() -> None:
    photos = photos_of({"finch": 20, "jay": 20})
    drawn = [draw_folds(photos, split_of(photos), 4, seed) for seed in (0, 0, 2**63 - 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_photos_that_the_split_leaves_out_are_left_out() -> None:
    photos = photos_of({"finch": 20, "jay": 20})
    split = split_of(photos)
    unused = split["train"].pop()
    folds = draw_folds(photos, split, 4, 0).folds
    assert all(unused not in part for fold in folds for part in fold.values())


def test_a_class_with_fewer_photos_than_folds_is_named_and_still_trained_on() -> None:
    photos = photos_of({"finch": 20, "jay": 20, "wren": 3})
    folds, small = draw_folds(photos, split_of(photos), 5, 0)
    assert small == {"wren": 3}
    assert sorted(sum(photos.labels[row] == "wren" for row in fold["test"]) for fold in folds) == [0, 0, 1, 1, 1]
    assert all(any(photos.labels[row] == "wren" for row in fold["train"]) for fold in folds)


def test_more_folds_than_photos_in_any_class_are_refused() -> None:
    photos = photos_of({"finch": 6, "jay": 8}, [[6, 7, 8]])
    with pytest.raises(DataError, match=r"got 10, but no class has more than 6 photos .*; takes 2 to 6, or null"):
        draw_folds(photos, split_of(photos), 10, 0)
