"""Draw the splits by `split.strategy`, for the photos that data/labels.csv does not refuse."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plumage.config import Split
from plumage.data.split.official import Leak, official_split, refuse_leaks
from plumage.data.split.splits_file import UNUSED
from plumage.data.split.stratified import Photos, stratified_split


def draw_splits(
    photos: Photos,
    kept: list[int],
    official: Sequence[str | None],
    duplicates: Iterable[Mapping[str, Any]],
    settings: Split,
) -> tuple[list[str], list[Leak]]:
    """Return a split for each photo, UNUSED for those that are not in the rows `kept`; and the leaks of an official split.

    `official` has the official split of each photo, `duplicates` the kept photos with exact copies (reports/data.json).

    Raises:
        DataError: a class has too few photos, or the official split leaks and `split.on_leak` is refuse.
    """
    drawn = photos.only(kept)
    leaks: list[Leak] = []
    if settings.strategy == "official":
        copies = {photo["key"]: [(copy["key"], copy["split"]) for copy in photo["copies"]] for photo in duplicates}
        given = [official[row] for row in kept]
        splits, leaks = official_split(drawn, given, copies, settings.val, settings.test, settings.seed)
        if settings.on_leak == "refuse":
            refuse_leaks(leaks)
    else:
        splits = stratified_split(drawn, settings.val, settings.test, settings.seed)
    split_of = dict(zip(kept, splits, strict=True))
    return [split_of.get(row, UNUSED) for row in range(len(photos.keys))], leaks
