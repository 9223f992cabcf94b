"""The `plumage` command. Commands import heavy modules themselves, so that --help answers at once."""

import atexit
import gc
import sys

import typer

from plumage.cli import data, registry
from plumage.cli.lineage import lineage, reproduce
from plumage.cli.new import new
from plumage.cli.predict import predict
from plumage.cli.project import params, repair, summary, ui
from plumage.cli.train import train
from plumage.common.environment import discard_output, settle_environment
from plumage.common.files import is_full, what_failed
from plumage.common.project import working_directory
from plumage.common.text import shown, shown_error
from plumage.errors import PlumageError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="The `plumage` command"
)
for command in (new, predict, train, summary, ui, registry.register, lineage, reproduce, repair, params):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(registry.app, name="registry")


def main() -> None:
    """Run a command. A user's mistake, or a failing disk, is one line on stderr and exit code 1."""
    atexit.register(gc.freeze)  # else Python, at its end, would look through all that was imported for garbage
    try:
        settle_environment()
        working_directory()  # some of what the commands import ends the process where it was deleted
        app()
    except PlumageError as error:
        sys.exit(f"error: {shown_error(error)}")
    except OSError as error:
        if is_full(error):
            discard_output()  # what is left of it can't be written either
        sys.exit(f"error: {shown(what_failed(error))}")
