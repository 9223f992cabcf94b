"""Folds for cross-validation: each photo is held out once; classes are spread evenly, near-duplicates stay together."""

import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from plumage.data.split.groups import group_numbers
from plumage.data.split.stratified import Photos, draw_from_train
from plumage.errors import DataError

Fold = dict[str, list[int]]
"""Rows of train, val and test. Test is held out; val, for choosing, is drawn from the rest."""
Rows = NDArray[np.int64]


class Folds(NamedTuple):
    """K folds, and the classes with too few photos for one in each: label to count, near-duplicates as one."""

    folds: list[Fold]
    small_classes: dict[str, int]


def draw_folds(photos: Photos, split: Mapping[str, list[int]], num_folds: int, seed: int) -> Folds:
    """Hold out each of the photos in `split` (rows of train, val and test) in one of `num_folds` folds.

    Of each fold's other photos, val gets the share that it has of those for training in `split`, class by class. A class
    that has one photo left to train on has none in val.

    Raises:
        DataError: there are too few photos for so many folds.
    """
    rows = np.array(sorted(row for part in split.values() for row in part))
    val = len(split["val"]) / (len(split["val"]) + len(split["train"]))
    labels, group_of = np.array(photos.labels, object)[rows], group_numbers(photos.groups, len(photos.keys))[rows]
    counts = _units_per_class(labels, group_of)
    if max(counts.values()) < num_folds:
        most = max(counts.values())
        takes = f"takes 2 to {most:,}, or null" if most > 1 else "takes null"
        raise DataError(
            f"evaluate.folds: got {num_folds}, but no class has more than {most:,} photos (near-duplicates count as one); "
            + takes
        )
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=_seed_of_32_bits(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about small classes, which the caller names
        parts = list(splitter.split(rows, labels.astype(str), group_of))
    folds = [_with_val(photos, rows[rest], rows[held_out], val, seed) for rest, held_out in parts]
    if not all(fold["val"] and fold["test"] for fold in folds):
        raise DataError(f"evaluate.folds: {len(rows):,} photos are too few for {num_folds} folds; takes null")
    return Folds(folds, {label: count for label, count in sorted(counts.items()) if count < num_folds})


def _seed_of_32_bits(seed: int) -> int:
    """scikit-learn takes no longer ones."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _units_per_class(labels: NDArray[np.object_], group_of: Rows) -> dict[str, int]:
    units: defaultdict[str, set[int]] = defaultdict(set)
    for label, group in zip(labels.tolist(), group_of.tolist(), strict=True):
        units[label].add(group)
    return {label: len(groups) for label, groups in units.items()}


def _with_val(photos: Photos, rest: Rows, held_out: Rows, val: float, seed: int) -> Fold:
    """The fold whose test rows are `held_out`: val is drawn from the classes that have two photos or more in `rest`."""
    place = {row: index for index, row in enumerate(rest.tolist())}
    keys, labels, ids = ([column[row] for row in place] for column in (photos.keys, photos.labels, photos.ids))
    groups = [[place[row] for row in group if row in place] for group in photos.groups]
    splits = ["train"] * len(place)
    part = Photos(keys, labels, ids, [group for group in groups if group])
    draw_from_train(splits, part, {"val": val}, seed, skip_small=True)
    fold = {split: [row for row, index in place.items() if splits[index] == split] for split in ("train", "val")}
    return fold | {"test": held_out.tolist()}
