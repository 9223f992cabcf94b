"""`plumage new`."""

import os
from difflib import unified_diff
from pathlib import Path
from typing import Annotated

import typer

from plumage.cli.shared import out
from plumage.common.files import write_text
from plumage.common.paths import DATA, PARAMS
from plumage.common.project import project_root
from plumage.errors import DataError


def new(
    folder: Annotated[
        Path, typer.Argument(help="your photos: class folders, train|valid|test above these, or an archive")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the values and reasons, and write nothing")] = False,
) -> None:
    """Look at your photos, and set the keys of params.yaml that depend on them, with a reason for each.

    Other keys and all comments stay. The values that change are printed; Git keeps what was committed.
    """
    from plumage.cli.suggestion import describe, look_at, suggest
    from plumage.common.yaml_file import parse_yaml, read_yaml, set_values
    from plumage.data.sources.dvc_check import check_for_dvc
    from plumage.params import check_params

    root = project_root()
    params = root / PARAMS
    read_yaml(params)  # its errors come before a look at many photos
    old = params.read_bytes().decode()
    photos = look_at(folder, root / DATA / ".new.tar.tmp")
    if photos.source == "folder":
        check_for_dvc(folder)
    suggested = suggest(photos, _data_path(folder, root))
    changed = set_values(old, {one.key: one.value for one in suggested}, str(params))
    check_params(parse_yaml(changed, str(params)), str(params))
    out.print(describe(photos))
    for one in suggested:
        value = "null" if one.value is None else one.value
        out.print(f"  {one.key}: {value}  ({one.reason})")
    out.print()
    for line in list(unified_diff(old.splitlines(), changed.splitlines(), n=0, lineterm=""))[2:]:
        if not line.startswith("@@"):
            out.print(line)
    if changed == old:
        out.print(f"{os.path.relpath(params)} has these values already; run `dvc repro`")
        return
    if not dry_run:
        write_text(params, changed)
    out.print(f"{'would change' if dry_run else 'changed'} {os.path.relpath(params)}; then run `dvc repro`")


def _data_path(folder: Path, root: Path) -> str:
    """`data.path` for a folder: relative to the project it is in, else absolute, so that experiments in copies find it.

    DataError if its name is not UTF-8, which YAML can't hold.
    """
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100  # a link stays a link
    resolved = absolute.parent.resolve() / absolute.name
    inside = resolved.is_relative_to(root) and resolved != root
    path = resolved.relative_to(root).as_posix() if inside else absolute.as_posix()
    if any("\udc80" <= character <= "\udcff" for character in path):
        raise DataError(f"{path}: the name is not UTF-8, as params.yaml is; rename it")
    return path
