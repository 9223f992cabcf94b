"""`plumage data`: look at the photos before the pipeline does, and take photos out of the data set."""

from pathlib import Path
from typing import Annotated

import typer

from plumage.cli.shared import open_dataset, out, print_rows, project_params
from plumage.common.paths import SPLITS
from plumage.common.project import project_root

app = typer.Typer(no_args_is_help=True, help="Check the folder of photos, or export photos from the data set")


@app.command()
def check() -> None:
    """Check that DVC can read the folder at data.path; `make repro` does it first."""
    from plumage.data.sources.dvc_check import check_for_dvc

    folder = project_root() / project_params().data.path
    for link in check_for_dvc(folder) if folder.is_dir() else []:
        out.print(f"{link}: DVC doesn't follow links to folders; after changes there run `dvc repro -f download`")


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="the photo's key, as in data/splits.csv and the reports")],
    to: Annotated[
        Path | None, typer.Option(help="file or folder to write to; default: its own name in the current folder")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
) -> None:
    """Write one photo to a file, and print what the data set knows about it."""
    from plumage.data.split.export import show_photo

    shown = show_photo(open_dataset(), key, project_root() / SPLITS, to, force)
    print_rows({
        "photo": shown.key,
        "label": shown.label,
        "official split": shown.official_split or "none",
        "split": shown.split or "none (yet; run `dvc repro split`)",
        "size": f"{shown.width:,} x {shown.height:,} pixels, {shown.bytes:,} bytes",
        "written to": shown.file,
    })  # fmt: skip


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="a new or an empty folder")],
    parts: Annotated[
        bool, typer.Option(help="write train|val|test/<class>/<file> by data/splits.csv, without the unused photos")
    ] = False,
) -> None:
    """Write all photos as class folders, <class>/<file>, which can be a data.source again."""
    from plumage.data.split.export import export_photos

    written = export_photos(open_dataset(), folder, project_root() / SPLITS if parts else None)
    out.print(f"{written:,} photos written to {folder}")
