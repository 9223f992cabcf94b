"""`plumage registry` and `plumage register`: versions of the registered model and its champion."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from plumage.cli.shared import ModelName, model_name, out, project_params
from plumage.common.project import project_root, store_root
from plumage.common.text import shown, shown_json

if TYPE_CHECKING:
    from plumage.registry.promotions import Promotion

app = typer.Typer(no_args_is_help=True, help="Which version of the registered model is champion, and why")
Reason = Annotated[str, typer.Option(help="why, for readers of the history")]


@app.command()
def history(
    model: ModelName = None,
    as_json: Annotated[bool, typer.Option("--json", help="print every detail as a list")] = False,
) -> None:
    """List all promotions, oldest first: time, versions, by what, author; and the reason."""
    from plumage.registry.promote import champions

    name = model_name(model)
    found = champions(store_root(), name)
    if as_json:
        print(shown_json([asdict(entry) for entry in found.history]))
        return
    if found.history:
        for entry in found.history:
            _print_entry(entry)
    else:
        out.print(f"{name}: no promotions yet")
    for alias, version in found.kept.items():
        out.print(f"@{alias} is version {version}")
    last = found.history[-1].to if found.history else None
    if found.now != last:
        now = f"version {found.now}" if found.now else "none"
        cause = "a promotion was interrupted, or the alias was moved by other means"
        out.print(f"the champion is {now}, but not by the history: {cause}")


@app.command()
def promote(
    version: Annotated[int, typer.Argument(min=1, help="the version's number")],
    reason: Reason = "",
    model: ModelName = None,
) -> None:
    """Make a version champion by hand, whatever the gate says."""
    from plumage.registry import promote

    name = model_name(model)
    _print_move(name, promote.promote(project_root(), name, version, reason))


@app.command()
def rollback(
    version: Annotated[int | None, typer.Argument(min=1, help="a former champion; default: the previous one")] = None,
    reason: Reason = "",
    model: ModelName = None,
) -> None:
    """Go back to an earlier champion. The gate won't promote the version that is rolled back."""
    from plumage.registry import promote

    name = model_name(model)
    _print_move(name, promote.rollback(project_root(), name, version, reason))


def register() -> None:
    """Register the current model as the last stage does, without running other stages. Restores what MLflow lacks."""
    from plumage.common.class_names import ClassNames
    from plumage.common.dvc_status import check_current
    from plumage.registry.decision import summary
    from plumage.registry.register import register_outputs

    root, params = project_root(), project_params()
    check_current(root, params.data.path, "evaluate")
    os.chdir(root)
    shown = params.flat("register")
    experiment, names = params.tracking.experiment, ClassNames(params.data.classes)
    outcome = register_outputs(root, experiment, params.register_, params.split.similarity, names, shown)
    for line in summary(outcome).splitlines():
        out.print(line)


def _print_entry(entry: "Promotion") -> None:
    """One line of facts, and the reason below it."""
    when = entry.when[:19].replace("T", " ")
    out.print(f"{when} UTC  {entry.before or '–'} → {entry.to}  {entry.how}  {entry.who}")
    out.print(Padding(Text(shown(entry.why)), (0, 0, 0, 4), expand=False), soft_wrap=False)


def _print_move(name: str, move: "Promotion") -> None:
    before = f", in place of version {move.before}" if move.before else ""
    out.print(f"{name}: version {move.to} is champion now{before}")
