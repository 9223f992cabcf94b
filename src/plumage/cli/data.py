"""`plumage data`: look at the photos before the pipeline does, correct their labels, and export photos."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plumage.cli.shared import open_dataset, out, print_rows, project_params
from plumage.common.paths import DESCRIPTION, LABELS, SPLITS
from plumage.common.project import project_root, scratch_folder
from plumage.errors import DataError, PlumageError

if TYPE_CHECKING:
    from plumage.config import Params

app = typer.Typer(no_args_is_help=True, help="Check the folder of photos, correct labels, or export photos")


@app.command()
def check() -> None:
    """Check that DVC can read the folder at data.path, and say if its classes are new; `make repro` does it first."""
    from plumage.data.sources.dvc_check import check_for_dvc

    params = project_params()
    folder = project_root() / params.data.path
    for link in check_for_dvc(folder) if folder.is_dir() else []:
        out.print(f"{link}: DVC doesn't follow links to folders; after changes there run `dvc repro -f download`")
    if params.data.source == "folder" and folder.is_dir():
        _announce_new_classes(params, folder)


def _announce_new_classes(params: "Params", folder: Path) -> None:
    """Say what other classes than the champion's mean. MLflow is asked only if they aren't those of the model in models/."""
    from plumage.common.class_names import ClassNames
    from plumage.data.sources.folder import FolderSource
    from plumage.data.split.decisions import read_decisions

    root, names = project_root(), ClassNames(params.data.classes)
    with suppress(PlumageError):  # what is wrong with the photos, stage download says; there may be no model or store
        found = {names(photo.label) for photo in FolderSource(folder).found}
        classes = sorted(found | set(filter(None, read_decisions(root / LABELS).values())))
        if _trained_classes(root / DESCRIPTION) != classes:
            from plumage.registry.class_change import announce_before_training
            from plumage.tracking.store import use_store

            use_store(root)
            announce_before_training(params, classes)


def _trained_classes(description: Path) -> object:
    """The classes in a model.json; None if there is none that can be read."""
    from plumage.common.files import read_json

    try:
        content = read_json(description)
    except (OSError, ValueError):
        return None
    return content.get("classes") if isinstance(content, dict) else None


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="the photo's key, as in data/splits.csv and the reports")],
    to: Annotated[
        Path | None, typer.Option(help="file or folder to write to; default: its own name in the current folder")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite an existing file")] = False,
) -> None:
    """Write one photo to a file, and print what the data set knows about it."""
    from plumage.data.split.decisions import read_decisions
    from plumage.data.split.export import show_photo

    decisions = read_decisions(project_root() / LABELS)
    shown = show_photo(open_dataset(), key, project_root() / SPLITS, to, force)
    print_rows({
        "photo": shown.key,
        "label": shown.label,
        **({f"in {LABELS}": decisions[key] or "refused"} if key in decisions else {}),
        "official split": shown.official_split or "none",
        "split": shown.split or "none (yet; run `dvc repro split`)",
        "size": f"{shown.width:,} x {shown.height:,} pixels, {shown.bytes:,} bytes",
        "written to": shown.file,
    }, width=18)  # fmt: skip


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(help="a new or an empty folder")],
    parts: Annotated[
        bool, typer.Option(help="write train|val|test/<class>/<file> by data/splits.csv, without the unused photos")
    ] = False,
) -> None:
    """Write all photos as class folders, <class>/<file>, by their corrected labels; data.source can read them again."""
    from plumage.data.split.decisions import read_decisions
    from plumage.data.split.export import export_photos

    root = project_root()
    decisions = read_decisions(root / LABELS)
    written = export_photos(open_dataset(), folder, root / SPLITS if parts else None, decisions)
    out.print(f"{written:,} photos written to {folder}")


@app.command()
def relabel(
    decision: Annotated[
        list[str],
        typer.Argument(
            help="keys, as in reports/label_errors.csv, then their class, `refuse` to leave them out, or `original` to undo",
            metavar="KEY... CLASS|refuse|original",
        ),
    ],
    new_class: Annotated[bool, typer.Option("--new-class", help="the class is a new one")] = False,
) -> None:
    """Correct the labels of photos, or leave photos out, from the next `dvc repro` on: writes data/labels.csv and touches no photo."""
    from filelock import FileLock

    from plumage.data.split.decisions import decide, read_decisions, write_decisions

    *keys, wanted = decision
    if not keys:
        raise DataError("takes one key or more, then a class, `refuse` or `original`")
    root, dataset = project_root(), open_dataset()
    lock = scratch_folder(root) / "labels.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        before = read_decisions(root / LABELS)
        after = decide(before, dataset, keys, wanted, new_class)
        if after != before:
            write_decisions(root / LABELS, after)
    own = dict(zip(dataset.keys, dataset.labels, strict=True))
    for key in dict.fromkeys(keys):
        was, now = before.get(key, own.get(key)), after.get(key, own.get(key))
        change = f"{was or 'refused'} -> {now or 'refused'}" if was != now else f"{now or 'refused'} already"
        out.print(f"{key}: {change}")
    out.print(f"{LABELS}: {len(after):,} in all; `dvc repro` applies them" if after != before else "nothing changed")
