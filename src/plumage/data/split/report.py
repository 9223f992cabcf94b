"""reports/split.json: the sizes of the splits, near-duplicates and leaks."""

from collections import Counter
from typing import Any

from plumage.data.split.official import Leak
from plumage.data.split.splits_file import SPLITS, UNUSED
from plumage.data.split.stratified import Photos


def split_report(photos: Photos, splits: list[str], leaks: list[Leak]) -> dict[str, Any]:
    """Return the content of reports/split.json; `splits` has one entry per photo."""
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
