"""Stage split: assign each photo to train, val or test in data/splits.csv; report what it found, and write the data page."""

from _stage import run_stage
from plumage.common.files import read_output, write_json
from plumage.common.paths import DATA_PAGE, DATA_REPORT, DATASET, SPLIT_REPORT, SPLITS
from plumage.data.dataset.class_rules import refuse_single_class
from plumage.data.dataset.store import Dataset
from plumage.data.split.data_page import write_data_page
from plumage.data.split.near_duplicates import group_near_duplicates
from plumage.data.split.official import Leak, official_split, refuse_leaks, split_report
from plumage.data.split.splits_file import write_splits
from plumage.data.split.stratified import Photos, stratified_split
from plumage.stage_inputs import StageInputs


def main(inputs: StageInputs) -> None:
    params = inputs.params
    dataset, split = Dataset(DATASET), params.split
    refuse_single_class(dataset.classes)
    about = read_output(DATA_REPORT)
    groups = []
    if split.similarity is not None:
        groups = group_near_duplicates(dataset.bytes_column("thumbnail"), split.similarity)
    ids = [row.tobytes() for row in dataset.bytes_column("sha256")]
    photos = Photos(dataset.keys, dataset.labels, ids, groups)
    leaks: list[Leak] = []
    if split.strategy == "official":
        copies = {
            photo["key"]: [(copy["key"], copy["split"]) for copy in photo["copies"]] for photo in about["duplicates"]
        }
        splits, leaks = official_split(photos, dataset.official_splits, copies, split.val, split.test, split.seed)
        if split.on_leak == "refuse":
            refuse_leaks(leaks)
    else:
        splits = stratified_split(photos, split.val, split.test, split.seed)
    report = split_report(photos, splits, leaks)
    inputs.check()
    write_splits(SPLITS, photos.keys, photos.labels, splits)
    write_json(SPLIT_REPORT, report)
    write_data_page(DATA_PAGE, dataset, splits, about, report)
    inputs.check()
    counts = ", ".join(f"{count:,} {name}" for name, count in report["photos"].items())
    repaired = f", {len(leaks):,} leaks repaired" if leaks else ""
    print(f"{counts}; {len(groups):,} groups of near-duplicates{repaired} (see {DATA_PAGE})")


if __name__ == "__main__":
    run_stage(main)
