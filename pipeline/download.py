"""Stage download: photos of any source into data/dataset/, every one checked, and reports/data.json about them."""

from pathlib import Path

from _stage import run_stage
from plumage.config import Params
from plumage.data.ingest import ingest
from plumage.data.locate import locate_photos
from plumage.data.sources import open_source
from plumage.files import write_json
from plumage.project import project_root


def main(params: Params) -> None:
    path = locate_photos(params.data.path, project_root(), Path.cwd())
    source = open_source(params.data, path)
    report = ingest(source.photos(), len(source), Path("data/dataset"))
    write_json(Path("reports/data.json"), {"source": params.data.source, **report})
    refused = f", {len(report['refused'])} refused (see reports/data.json)" if report["refused"] else ""
    print(f"{report['photos']:,} photos of {report['classes']:,} classes{refused}")


if __name__ == "__main__":
    run_stage(main)
