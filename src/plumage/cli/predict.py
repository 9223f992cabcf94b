"""`plumage predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from plumage.cli.shared import out, plain_table
from plumage.common.figures import probability as percent
from plumage.common.paths import MODELS
from plumage.common.project import project_root
from plumage.common.text import shown
from plumage.errors import ProjectError


def predict(
    photos: Annotated[list[Path], typer.Argument(help="photo files", metavar="PHOTO...")],
    model: Annotated[
        str | None,
        typer.Option(
            help="a model's folder, or models:/NAME@ALIAS, or models:/NAME/VERSION; default: models of the project"
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="classes to print per photo")] = 5,
) -> None:
    """Print the most probable classes of photos. A file that isn't a photo gets a line on stderr, and exit code 1."""
    from plumage.errors import PhotoError
    from plumage.serving import load_predictor

    predictor = load_predictor(model or _own_models())
    failed = False
    for photo in photos:
        try:
            (ranked,) = predictor.predict([photo], top_k=top)
        except PhotoError as error:
            failed = True
            print(f"error: {shown(error)}", file=sys.stderr)
            continue
        table = plain_table()
        for name, probability in ranked:
            table.add_row(f"  {percent(probability):>6}", shown(name))
        out.print(shown(photo))
        out.print(table)
    if failed:
        raise typer.Exit(1)


def _own_models() -> Path:
    """`models/` of the project around the working directory; outside a project, `models/` in the working directory."""
    try:
        return project_root() / MODELS
    except ProjectError as error:
        if MODELS.is_dir():
            return MODELS
        raise ProjectError(f"{error}, or give a model with --model") from None
