"""`plumage predict`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from plumage.cli.shared import out, plain_table
from plumage.common.paths import MODELS


def predict(
    photos: Annotated[list[Path], typer.Argument(help="photo files", metavar="PHOTO...")],
    model: Annotated[str, typer.Option(help="a model's folder, or models:/NAME@ALIAS, or models:/NAME/VERSION")] = str(
        MODELS
    ),
    top: Annotated[int, typer.Option(min=1, help="classes to print per photo")] = 5,
) -> None:
    """Print the most probable classes of photos. A file that isn't a photo gets a line on stderr, and exit code 1."""
    from plumage.errors import PhotoError
    from plumage.serving import load_predictor

    predictor = load_predictor(model)
    failed = False
    for photo in photos:
        try:
            (ranked,) = predictor.predict([photo], top_k=top)
        except PhotoError as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
            continue
        table = plain_table()
        for name, probability in ranked:
            table.add_row(f"  {probability:7.2%}", name)
        out.print(photo)
        out.print(table)
    if failed:
        raise typer.Exit(1)
