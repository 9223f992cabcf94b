"""Stage split: assign each photo to train, val or test in data/splits.csv; report what it found, and write the data page."""

from _stage import run_stage
from plumage.common.files import read_output, write_json
from plumage.common.paths import DATA_PAGE, DATA_REPORT, DATASET, LABELS, SPLIT_REPORT, SPLITS
from plumage.data.dataset.class_rules import refuse_single_class
from plumage.data.dataset.store import Dataset
from plumage.data.split.data_page import write_data_page
from plumage.data.split.decisions import apply_decisions, read_decisions
from plumage.data.split.draw import draw_splits
from plumage.data.split.near_duplicates import group_near_duplicates
from plumage.data.split.official import split_report
from plumage.data.split.splits_file import write_splits
from plumage.data.split.stratified import Photos
from plumage.stage_inputs import StageInputs


def main(inputs: StageInputs) -> None:
    source, params = Dataset(DATASET), inputs.params
    split = params.split
    refuse_single_class(source.classes)
    decided = apply_decisions(read_decisions(LABELS), source)
    dataset, kept = decided.dataset, decided.kept
    about = read_output(DATA_REPORT)
    groups = []
    if split.similarity is not None:
        found = group_near_duplicates(dataset.bytes_column("thumbnail")[kept], split.similarity)
        groups = [[kept[row] for row in group] for group in found]
    ids = [row.tobytes() for row in dataset.bytes_column("sha256")]
    photos = Photos(dataset.keys, dataset.labels, ids, groups)
    splits, leaks = draw_splits(photos, kept, dataset.official_splits, about["duplicates"], split)
    report = split_report(photos, splits, leaks) | decided.report()
    inputs.check()
    write_splits(SPLITS, photos.keys, photos.labels, splits)
    write_json(SPLIT_REPORT, report)
    write_data_page(DATA_PAGE, dataset, splits, about, report)
    inputs.check()
    for line in decided.lines(LABELS):
        print(line)
    counts = ", ".join(f"{count:,} {name}" for name, count in report["photos"].items())
    repaired = f", {len(leaks):,} leaks repaired" if leaks else ""
    print(f"{counts}; {len(groups):,} groups of near-duplicates{repaired} (see {DATA_PAGE})")


if __name__ == "__main__":
    run_stage(main)
