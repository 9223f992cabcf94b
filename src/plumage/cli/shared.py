"""What several commands share: output, options, and the project's files."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from plumage.common.paths import DATASET, PARAMS
from plumage.common.project import project_root
from plumage.common.text import shown

if TYPE_CHECKING:
    from plumage.config import Params
    from plumage.data.dataset.store import Dataset


class _Output(Console):
    """Prints lines as `shown` makes them. Tables get their cells from `shown`."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(shown(one) if isinstance(one, str) else one for one in objects), **options)


out = _Output(highlight=False, markup=False, emoji=False, soft_wrap=True)
ModelName = Annotated[str | None, typer.Option("--model", help="its name; default: register.model_name of params.yaml")]


def project_params() -> "Params":
    """The project's params.yaml, checked."""
    from plumage.params import load_params

    return load_params(project_root() / PARAMS)


def model_name(given: str | None) -> str:
    """The registered model's name: `given`, else that of params.yaml."""
    return given or project_params().register_.model_name


def open_dataset() -> "Dataset":
    """The project's data set."""
    from plumage.data.dataset.store import Dataset

    return Dataset(project_root() / DATASET)


def plain_table() -> Table:
    """A table without borders and headings."""
    return Table(box=None, show_header=False, padding=(0, 2, 0, 0))


def print_rows(rows: dict[str, object], width: int = 14) -> None:
    """Print names, right-aligned to `width`, with their values."""
    for name, value in rows.items():
        out.print(f"{name:>{width}}  {shown(value)}")
