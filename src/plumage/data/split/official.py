"""`split.strategy: official`: the splits that the data set comes with, and the leaks between them; reports/split.json."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from plumage.common.text import some_lines
from plumage.data.split.splits_file import SPLITS, UNUSED
from plumage.data.split.stratified import Photos, draw_from_train
from plumage.errors import DataError

LISTED = 100  # the number of leaks that the error lists


class Leak(NamedTuple):
    """The same picture in several splits of an official split."""

    photos: list[tuple[str, str]]  # key and official split of each, in order
    kept_in: str


def official_split(
    photos: Photos,
    official: Sequence[str | None],
    copies: dict[str, list[tuple[str, str | None]]],
    val: float,
    test: float,
    seed: int,
) -> tuple[list[str], list[Leak]]:
    """Return the official split of each photo, repaired, and its leaks. A missing val or test is drawn from train.

    `official` has the official split of each photo; `copies` the key and official split of each exact copy that the data
    set left out, by the key of the kept photo. Of photos that show the same picture in several splits, those in the
    strictest split stay there (test, then val) and the others become UNUSED.

    Raises:
        DataError: the data set has no train split, or a class has too few photos there.
    """
    if "train" not in official:
        raise DataError("split.strategy: official, but the data set has no train split; use stratified")
    given = [split or "train" for split in official]
    splits = list(given)
    leaks = []
    grouped = {row for group in photos.groups for row in group}
    singles = [[row] for row, key in enumerate(photos.keys) if key in copies and row not in grouped]
    for group in [*photos.groups, *singles]:
        shown = {row: [(photos.keys[row], given[row])] for row in group}
        for row in group:
            shown[row] += [(key, split or "train") for key, split in copies.get(photos.keys[row], [])]
        strictest_of_row = {row: max((split for _, split in shown[row]), key=SPLITS.index) for row in group}
        strictest = max(strictest_of_row.values(), key=SPLITS.index)
        pictures = sorted(picture for of_row in shown.values() for picture in of_row)
        if len({split for _, split in pictures}) > 1:
            leaks.append(Leak(pictures, strictest))
            for row in group:
                splits[row] = strictest if strictest_of_row[row] == strictest else UNUSED
    missing = {split: share for split, share in (("test", test), ("val", val)) if split not in official}
    draw_from_train(splits, photos, missing, seed)
    return splits, sorted(leaks)


def refuse_leaks(leaks: list[Leak]) -> None:
    """Raise a DataError that lists `leaks`, if there are any."""
    if not leaks:
        return
    lines = [", ".join(f"{key} ({split})" for key, split in leak.photos) for leak in leaks]
    raise DataError(
        f"the official split leaks: {len(leaks):,} pictures are in several splits, and split.on_leak is refuse; use "
        "split.on_leak: repair or split.strategy: stratified",
        some_lines(lines, LISTED),
    )


def split_report(photos: Photos, splits: list[str], leaks: list[Leak]) -> dict[str, Any]:
    """Return the content of reports/split.json (sizes, near-duplicates, leaks); `splits` has one entry per photo."""
    counts = Counter(splits)
    return {
        "photos": {split: counts[split] for split in (*SPLITS, UNUSED) if split in SPLITS or counts[split]},
        "near_duplicates": [
            [{"key": photos.keys[row], "label": photos.labels[row], "split": splits[row]} for row in group]
            for group in photos.groups
        ],
        "leaks": [
            {"kept_in": leak.kept_in, "photos": [{"key": key, "split": split} for key, split in leak.photos]}
            for leak in leaks
        ],
    }
