"""`plumage predict`."""

import hashlib
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from plumage.common.files import sha256
from plumage.common.paths import DESCRIPTION, MODELS, WEIGHTS
from plumage.common.project import project_root
from plumage.common.text import shown
from plumage.errors import ModelError, PredictionFileError, ProjectError

if TYPE_CHECKING:
    from plumage.inference.prediction_file import Format, PredictionFile
    from plumage.inference.predictor import Predictor

FormatName = Literal["table", "csv", "jsonl"]
BY_SUFFIX: dict[str, FormatName] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
SOME_UNREADABLE, INTERRUPTED = 3, 130


def predict(
    photos: Annotated[
        list[str],
        typer.Argument(
            help="photos, folders of photos, or - for a list of paths on stdin", metavar="PHOTO|FOLDER|-..."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="a model's folder, or models:/NAME@ALIAS, or models:/NAME/VERSION; default: models of the project"
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="classes per photo")] = 5,
    format: Annotated[
        FormatName | None, typer.Option(help="default: by the suffix of --output, .csv or .jsonl; else table")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="csv or jsonl file; after an interruption, the same command resumes")
    ] = None,
) -> None:
    """Print the most probable classes of photos.

    A photo that can't be read gets a line on stderr, and exit code 3.
    """
    try:
        failed, total = _predict(photos, model, top, _format_name(format, output), output)
    except KeyboardInterrupt:
        resumes = f"; the same command resumes {shown(output)}" if output else ""
        print(f"interrupted{resumes}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if failed and total > 1:
        print(f"{failed:,} of {total:,} photos can't be read", file=sys.stderr)
    if failed:
        raise typer.Exit(SOME_UNREADABLE)


def _format_name(given: FormatName | None, output: Path | None) -> FormatName:
    """The format to write."""
    name = given or (BY_SUFFIX.get(output.suffix.lower()) if output else "table")
    if output and name in (None, "table"):
        takes = "takes a .csv or .jsonl file, or any with --format csv or jsonl"
        raise PredictionFileError(f"--output {output}: {takes}")
    if not output and sys.stdout is None:
        raise PredictionFileError("stdout is closed; write to a file with --output")
    assert name is not None
    return name


def _predict(
    photos: list[str], model: str | None, top: int, format_name: FormatName, output: Path | None
) -> tuple[int, int]:
    """Write the predictions of all photos. Return how many can't be read, and how many there are."""
    from plumage.inference.prediction_file import FORMATS, PredictionFile, Table

    predictor, digest = _load(model, with_digest=format_name != "table")
    if format_name == "table":
        return _write_all(predictor, photos, top, Table(), None)
    format = FORMATS[format_name](min(top, len(predictor.classes)), digest)
    if not output:
        return _write_all(predictor, photos, top, format, None)
    with closing(PredictionFile(output, format)) as file:
        failed, total = _write_all(predictor, photos, top, format, file)
    others = sum(file.done.values())
    before = f", {file.taken:,} of them from before" if file.taken else ""
    print(f"{shown(output)}: {total - failed:,} photos{before}" + (f"; and {others:,} not named now" if others else ""))
    return failed, total


def _write_all(
    predictor: "Predictor", arguments: list[str], top: int, format: "Format", file: "PredictionFile | None"
) -> tuple[int, int]:
    """Write predictions of the photos that `file` doesn't have, or to stdout. Return as `_predict`."""
    from plumage.common.progress import Progress, console
    from plumage.inference.find_photos import count_photos, find_photos
    from plumage.inference.stream import predict_stream

    stdout = sys.stdout  # a progress bar replaces it while it is shown
    stdin = sys.stdin.buffer if sys.stdin else None
    on_screen = not file and stdout.isatty() and console.is_terminal
    photos = (photo for photo in find_photos(arguments, stdin) if not (file and file.take(photo.path)))
    failed, answered = 0, 0

    def write(text: str) -> None:
        if file:
            file.write(text)
        else:
            stdout.write(text)
            stdout.flush()

    if not file:
        write(format.header)
    with (
        Progress("photos", None if on_screen else count_photos(arguments), shown=not on_screen) as progress,
        closing(predict_stream(predictor, photos, top)) as answers,
    ):
        for batch in answers:
            write("".join(format.row(answer) for answer in batch if not answer.problem))
            unreadable = [answer for answer in batch if answer.problem]
            for answer in unreadable:
                print(f"error: {shown(answer.path)}: {shown(answer.problem)}", file=sys.stderr)
            failed, answered = failed + len(unreadable), answered + len(batch)
            progress.advance(answered + (file.taken if file else 0) - progress.done)
    return failed, answered + (file.taken if file else 0)


def _load(model: str | None, with_digest: bool) -> tuple["Predictor", str]:
    """The model, and twelve digits of the SHA-256 of its files."""
    from plumage.inference.predictor import Predictor
    from plumage.models.model_files import read_model
    from plumage.serving import model_folder

    with model_folder(model or _own_models()) as folder:
        predictor = Predictor(read_model(folder))
        digests = "".join(sha256(folder / file.name) for file in (WEIGHTS, DESCRIPTION)) if with_digest else ""
    return predictor, hashlib.sha256(digests.encode()).hexdigest()[:12]


def _own_models() -> Path:
    """`models/` of the project around the working directory; outside a project, `models/` in the working directory.

    Raises:
        ProjectError: there is neither.
        ModelError: the project has no model yet.
    """
    try:
        folder = project_root() / MODELS
    except ProjectError as error:
        if MODELS.is_dir():
            return MODELS
        raise ProjectError(f"{error}, or give a model with --model") from None
    if not (folder / DESCRIPTION.name).is_file():
        raise ModelError(f"{folder} holds no model yet; run `dvc repro`, or give a model with --model")
    return folder
