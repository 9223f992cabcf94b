"""Stage split: a part (train, val, test) for every photo, in data/splits.csv; what it found, and a page about the data."""

import json
from pathlib import Path

from _stage import run_stage
from plumage.common.files import write_json
from plumage.config import Params
from plumage.data.dataset.store import Dataset
from plumage.data.split.data_page import write_data_page
from plumage.data.split.near_duplicates import group_near_duplicates
from plumage.data.split.splits_file import write_splits
from plumage.data.split.strategies import Leak, Photos, official_split, refuse_leaks, split_report, stratified_split


def main(params: Params) -> None:
    dataset, split = Dataset(Path("data/dataset")), params.split
    about = json.loads(Path("reports/data.json").read_text(encoding="utf-8"))
    groups = []
    if split.similarity is not None:
        groups = group_near_duplicates(dataset.bytes_column("thumbnail"), split.similarity)
    ids = [row.tobytes() for row in dataset.bytes_column("sha256")]
    photos = Photos(dataset.keys, dataset.labels, ids, groups)
    leaks: list[Leak] = []
    if split.strategy == "official":
        copies = {
            photo["key"]: [(copy["key"], copy["part"]) for copy in photo["copies"]] for photo in about["duplicates"]
        }
        parts, leaks = official_split(photos, dataset.parts, copies, split.val, split.test, split.seed)
        if split.on_leak == "refuse":
            refuse_leaks(leaks)
    else:
        parts = stratified_split(photos, split.val, split.test, split.seed)
    report = split_report(photos, parts, leaks)
    write_splits(Path("data/splits.csv"), photos.keys, photos.labels, parts)
    write_json(Path("reports/split.json"), report)
    write_data_page(Path("reports/data.html"), dataset, parts, about, report)
    counts = ", ".join(f"{count:,} {part}" for part, count in report["photos"].items())
    leaking = f", {len(leaks):,} leaks mended" if leaks else ""
    print(f"{counts}; {len(groups):,} groups of near-duplicates{leaking} (see reports/data.html)")


if __name__ == "__main__":
    run_stage(main)
