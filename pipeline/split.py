"""Stage split: a part (train, val, test) for every photo, in data/splits.csv."""

from collections import Counter
from pathlib import Path

from _stage import run_stage
from plumage.config import Params
from plumage.data.split import official_split, stratified_split, write_splits
from plumage.data.store import Dataset


def main(params: Params) -> None:
    dataset = Dataset(Path("data/dataset"))
    keys, labels, split = dataset.keys, dataset.labels, params.split
    if split.strategy == "official":
        parts = official_split(keys, labels, dataset.parts, split.val, split.test, split.seed)
    else:
        parts = stratified_split(keys, labels, split.val, split.test, split.seed)
    write_splits(Path("data/splits.csv"), keys, labels, parts)
    print(", ".join(f"{count:,} {part}" for part, count in Counter(parts).items()))


if __name__ == "__main__":
    run_stage(main)
