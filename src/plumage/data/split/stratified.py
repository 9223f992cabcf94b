"""Which photo is for training, for choosing (val), for the final figures (test).

Within a class photos stand in the order of a hash of the seed and their bytes; test is drawn from one end of it, val from the
other. So the same photos give the same split on any machine, in any order and under any name, and a photo that comes or goes
moves no photo of another class, and in its own only what rounding needs. Near-duplicates stand and go together.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from plumage.data.split.splits_file import PARTS, UNUSED
from plumage.errors import DataError

LISTED = 100


class Photos(NamedTuple):
    """What a split is drawn from; the lists have an entry a photo."""

    keys: list[str]
    labels: list[str]
    ids: list[bytes]
    """What the order is drawn by: the SHA-256 of the photo."""
    groups: list[list[int]]
    """Rows that go to one part, being near-duplicates of one another. A row is in one group at most."""


class Leak(NamedTuple):
    """The same picture in several parts of an official split."""

    photos: list[tuple[str, str]]
    """Key and part of each, in order."""
    kept_in: str


def stratified_split(photos: Photos, val: float, test: float, seed: int) -> list[str]:
    """A part for each photo: `test` of each class first, then `val` of the rest, each at least one photo.

    A group that spans classes goes to train: one of its labels is likely wrong, which would spoil a figure. DataError
    names the classes that have fewer than one photo, near-duplicates counted as one, for each part.
    """
    parts = ["train"] * len(photos.keys)
    _draw(parts, photos, {"test": test, "val": val}, seed)
    return parts


def official_split(
    photos: Photos,
    given: Sequence[str | None],
    copies: dict[str, list[tuple[str, str | None]]],
    val: float,
    test: float,
    seed: int,
) -> tuple[list[str], list[Leak]]:
    """The parts that the data set comes with, and where they leak; a part that it lacks is drawn, stratified, from its train.

    `copies` has, by the key of the photo that is kept, the keys and parts of those that are the same byte for byte. Of
    photos that show the same picture in several parts, those in the strictest part stay there (test, then val) and the
    others are UNUSED. DataError when the data set has no train part, or a class has too few photos there.
    """
    if "train" not in given:
        raise DataError("split.strategy: official, but the data set comes without a train part; takes stratified here")
    official = [part or "train" for part in given]
    parts = list(official)
    leaks = []
    grouped = {row for group in photos.groups for row in group}
    alone = [[row] for row, key in enumerate(photos.keys) if key in copies and row not in grouped]
    for group in [*photos.groups, *alone]:
        shown = {row: [(photos.keys[row], official[row])] for row in group}
        for row in group:
            shown[row] += [(key, part or "train") for key, part in copies.get(photos.keys[row], [])]
        here = {row: max((part for _, part in shown[row]), key=PARTS.index) for row in group}
        strictest = max(here.values(), key=PARTS.index)
        everywhere = sorted(photo for photos_of_row in shown.values() for photo in photos_of_row)
        if len({part for _, part in everywhere}) > 1:
            leaks.append(Leak(everywhere, strictest))
            for row in group:
                parts[row] = strictest if here[row] == strictest else UNUSED
    missing = {part: share for part, share in (("test", test), ("val", val)) if part not in given}
    _draw(parts, photos, missing, seed)
    return parts, sorted(leaks)


def refuse_leaks(leaks: list[Leak]) -> None:
    """DataError that lists `leaks`, if there are any."""
    if not leaks:
        return
    lines = ["  " + ", ".join(f"{key} ({part})" for key, part in leak.photos) for leak in leaks[:LISTED]]
    if len(leaks) > LISTED:
        lines.append(f"  ... and {len(leaks) - LISTED:,} more")
    raise DataError(
        f"the official split leaks: {len(leaks):,} pictures are in two parts or more, and split.on_leak is refuse; takes "
        "mend, or strategy stratified\n" + "\n".join(lines)
    )


def _draw(parts: list[str], photos: Photos, shares: dict[str, float], seed: int) -> None:
    """Move `shares` of each class's train photos to the parts named: at least one, and never the last.

    The first part is drawn from the front of the class's order, the second from its end.
    """
    units = _units(parts, photos)
    in_train = Counter(label for label, part in zip(photos.labels, parts, strict=True) if part == "train")
    # One unit has to stay in train, unless photos do that are in none.
    stay = {label: int(sum(map(len, of_class)) == in_train[label]) for label, of_class in units.items()}
    few = [
        f"{label!r} has {len(of_class)}"
        for label, of_class in sorted(units.items())
        if len(of_class) < stay[label] + len(shares)
    ]
    if few:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise DataError(
            f"too few photos in {', '.join(few[:5])}{more}; every class takes {1 + len(shares)} or more, one for each of "
            f"{', '.join(['train', *shares])}; near-duplicates (split.similarity) count as one"
        )
    for label, unordered in units.items():
        of_class, left = _in_order(unordered, photos, seed), in_train[label]
        for number, (part, share) in enumerate(shares.items(), start=1):
            spare = stay[label] + len(shares) - number
            target = min(max(1, round(share * left)), left - spare)
            taken = {row for unit in _front(of_class, target, len(of_class) - spare) for row in unit}
            for row in taken:
                parts[row] = part
            left -= len(taken)
            of_class = [unit for unit in reversed(of_class) if unit[0] not in taken]


def _front(units: list[list[int]], target: int, most: int) -> list[list[int]]:
    """The first of `units`, at least one and at most `most`, that hold together as near to `target` rows as can be.

    Those that alone hold more are passed over, as long as there are others.
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


def _units(parts: list[str], photos: Photos) -> dict[str, list[list[int]]]:
    """By class, what is drawn as one from its train photos: groups and single rows."""
    grouped = {row for group in photos.groups for row in group}
    units: dict[str, list[list[int]]] = {label: [] for label in photos.labels}
    for row, (label, part) in enumerate(zip(photos.labels, parts, strict=True)):
        if part == "train" and row not in grouped:
            units[label].append([row])
    for group in photos.groups:
        rows = [row for row in group if parts[row] != UNUSED]
        labels = {photos.labels[row] for row in rows}
        if len(labels) == 1 and {parts[row] for row in rows} == {"train"}:
            units[labels.pop()].append(rows)
    return units


def _in_order(units: list[list[int]], photos: Photos, seed: int) -> list[list[int]]:
    """`units` in the order of the draw."""
    start = hashlib.sha256(f"{seed}/".encode())

    def place(row: int) -> bytes:
        digest = start.copy()
        digest.update(photos.ids[row])
        return digest.digest()

    return sorted(units, key=lambda unit: min(map(place, unit)))


def split_report(photos: Photos, parts: list[str], leaks: list[Leak]) -> dict[str, Any]:
    """What reports/split.json says: how many photos each part holds, the near-duplicates, and the leaks of an official split."""
    counts = Counter(parts)
    return {
        "photos": {part: counts[part] for part in (*PARTS, UNUSED) if part in PARTS or counts[part]},
        "near_duplicates": [
            [{"key": photos.keys[row], "label": photos.labels[row], "split": parts[row]} for row in group]
            for group in photos.groups
        ],
        "leaks": [
            {"kept_in": leak.kept_in, "photos": [{"key": key, "part": part} for key, part in leak.photos]}
            for leak in leaks
        ],
    }
