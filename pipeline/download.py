"""Stage download: write the photos of any source into data/dataset/, each one checked, and reports/data.json."""

from pathlib import Path

from _stage import run_stage
from plumage.common.class_names import ClassNames
from plumage.common.files import write_json
from plumage.common.paths import DATA_REPORT, DATASET, DOWNLOADS, UNPACKED
from plumage.common.project import project_root
from plumage.data.dataset.ingest import describe, ingest
from plumage.data.sources import open_source
from plumage.data.sources.link_photos import link_photos
from plumage.data.sources.photo import SourcePaths
from plumage.stage_inputs import StageInputs


def main(inputs: StageInputs) -> None:
    root, params = project_root(), inputs.params
    photos = link_photos(params.data.path, root, Path.cwd())
    with open_source(params.data, SourcePaths(photos, root / DOWNLOADS, UNPACKED)) as source:
        data = params.data
        report = ingest(
            source, DATASET, data.min_size, data.max_refused, data.max_pixels,
            names=ClassNames(data.classes), before_replacing=inputs.check,
        )  # fmt: skip
    write_json(DATA_REPORT, {"source": params.data.source, **report})
    first, *others = describe(report)
    inputs.check()
    print(f"{first} (see {DATA_REPORT})", *others, sep="\n")


if __name__ == "__main__":
    run_stage(main)
