"""`split.strategy: stratified`: draw val and test from each class.

The photos of a class are ordered by a hash of the seed and their bytes; test is drawn from the front, val from the end. So
the same photos give the same split in any order and under any name, and adding or removing a photo moves no photo of another
class, and in its own class only as many as rounding needs. Near-duplicates stay together.
"""

import hashlib
from collections import Counter
from typing import NamedTuple

from plumage.common.text import some
from plumage.data.split.splits_file import UNUSED
from plumage.errors import DataError


class Photos(NamedTuple):
    """The photos to split; the lists have one entry per photo."""

    keys: list[str]
    labels: list[str]
    ids: list[bytes]  # SHA-256 of each photo: the order of the draw depends on it
    groups: list[list[int]]  # rows of near-duplicates, which go to one split together; a row is in one group at most

    def only(self, rows: list[int]) -> "Photos":
        """The photos `rows`, numbered from 0 in this order. Groups keep those of their members that are among them."""
        place = {row: number for number, row in enumerate(rows)}
        keys, labels = ([column[row] for row in rows] for column in (self.keys, self.labels))
        groups = ([place[row] for row in group if row in place] for group in self.groups)
        return Photos(keys, labels, [self.ids[row] for row in rows], [group for group in groups if len(group) > 1])


def stratified_split(photos: Photos, val: float, test: float, seed: int) -> list[str]:
    """Return a split for each photo: a share `test` of each class, then `val` of the rest, at least one photo each.

    A group that spans classes goes to train: one of its labels is likely wrong, which would spoil a metric.

    Raises:
        DataError: classes have too few photos for one in each split, where near-duplicates count as one; it names them.
    """
    splits = ["train"] * len(photos.keys)
    draw_from_train(splits, photos, {"test": test, "val": val}, seed)
    return splits


def draw_from_train(
    splits: list[str], photos: Photos, shares: dict[str, float], seed: int, skip_small: bool = False
) -> None:
    """Move `shares` of each class's train photos to the splits named, in place: at least one unit, and never the last.

    The first split is drawn from the front of the class's order, the second from its end. With `skip_small`, a class with too
    few photos keeps all of them in train.

    Raises:
        DataError: as `stratified_split`, without `skip_small`.
    """
    units = _units(splits, photos)
    num_train = Counter(label for label, split in zip(photos.labels, splits, strict=True) if split == "train")
    # One unit must stay in train, unless train photos outside the units do.
    reserved = {label: int(sum(map(len, of_class)) == num_train[label]) for label, of_class in units.items()}
    if skip_small:
        units = {label: of_class for label, of_class in units.items() if len(of_class) >= reserved[label] + len(shares)}
    _check_enough(units, reserved, list(shares))
    for label, unordered in units.items():
        of_class, left = _in_order(unordered, photos, seed), num_train[label]
        for number, (split, share) in enumerate(shares.items(), start=1):
            spare = reserved[label] + len(shares) - number
            target = min(max(1, round(share * left)), left - spare)
            taken = {row for unit in _front(of_class, target, len(of_class) - spare) for row in unit}
            for row in taken:
                splits[row] = split
            left -= len(taken)
            of_class = [unit for unit in reversed(of_class) if unit[0] not in taken]


def _check_enough(units: dict[str, list[list[int]]], reserved: dict[str, int], names: list[str]) -> None:
    enough = {label: reserved[label] + len(names) for label in units}
    too_small = [f"{label!r} has {len(units[label])}" for label in sorted(units) if len(units[label]) < enough[label]]
    if too_small:
        raise DataError(
            f"too few photos: {some(too_small, 5)}; every class takes {1 + len(names)} or more, one for each of "
            f"{', '.join(['train', *names])}; near-duplicates (split.similarity) count as one"
        )


def _front(units: list[list[int]], target: int, most: int) -> list[list[int]]:
    """The first of `units`, at least one and at most `most`, whose sizes sum up as close to `target` as possible.

    Units larger than `target` are passed over, as long as there are others.
    """
    fitting = [unit for unit in units if len(unit) <= target] or [min(units, key=len)]
    taken: list[list[int]] = []
    total = 0
    for unit in fitting[:most]:
        if taken and abs(total + len(unit) - target) >= abs(total - target):
            break
        taken.append(unit)
        total += len(unit)
    return taken


def _units(splits: list[str], photos: Photos) -> dict[str, list[list[int]]]:
    """The units that are drawn as one, by class: groups and single rows of train photos."""
    grouped = {row for group in photos.groups for row in group}
    units: dict[str, list[list[int]]] = {label: [] for label in photos.labels}
    for row, (label, split) in enumerate(zip(photos.labels, splits, strict=True)):
        if split == "train" and row not in grouped:
            units[label].append([row])
    for group in photos.groups:
        rows = [row for row in group if splits[row] != UNUSED]
        labels = {photos.labels[row] for row in rows}
        if len(labels) == 1 and {splits[row] for row in rows} == {"train"}:
            units[labels.pop()].append(rows)
    return units


def _in_order(units: list[list[int]], photos: Photos, seed: int) -> list[list[int]]:
    """`units` in the order of the draw."""

    def position(row: int) -> bytes:
        return hashlib.sha256(f"{seed}/".encode() + photos.ids[row]).digest()

    return sorted(units, key=lambda unit: min(map(position, unit)))
