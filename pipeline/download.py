"""Stage download: photos of any source into data/dataset/, every one checked, and reports/data.json about them."""

from pathlib import Path

from _stage import run_stage
from plumage.common.files import write_json
from plumage.common.paths import project_root
from plumage.config import Params
from plumage.data.dataset.ingest import ingest
from plumage.data.sources import open_source
from plumage.data.sources.link_photos import link_photos


def main(params: Params) -> None:
    root = project_root()
    path = link_photos(params.data.path, root, Path.cwd())
    with open_source(params.data, path, root / "data" / "downloads", Path("data/.unpacked.tar.tmp")) as source:
        report = ingest(source, Path("data/dataset"), params.data.min_size, params.data.max_refused)
    write_json(Path("reports/data.json"), {"source": params.data.source, **report})
    notes = [f"{len(report[what]):,} {what.replace('_', ' ')}" for what in ("refused", "duplicates", "label_conflicts")]
    print(f"{report['photos']:,} photos of {report['classes']:,} classes; {', '.join(notes)} (see reports/data.json)")


if __name__ == "__main__":
    run_stage(main)
