"""`plumage summary`, `plumage ui`, `plumage repair` and `plumage params`: the project as a whole."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from plumage.cli.shared import out, print_rows
from plumage.common.figures import share
from plumage.common.files import read_output
from plumage.common.paths import DATA_PAGE, METRICS, REGISTRY, REPORT_PAGE
from plumage.common.project import project_root
from plumage.common.text import shown


def summary() -> None:
    """Print the results of the last `dvc repro`, and where to find more."""
    metrics, registered = _report(METRICS), _report(REGISTRY)
    aliases = "".join(f" @{alias}" for alias in registered["aliases"])
    folds = {f"{metrics['folds']['k']} folds": _accuracy(metrics["folds"])} if "folds" in metrics else {}
    print_rows({
        "test accuracy": _accuracy(metrics["test"]),
        **folds,
        "registered": f"{registered['name']} version {registered['version']}{aliases}: {registered['decision']['reason']}",
        "data": os.path.relpath(project_root() / DATA_PAGE),
        "report": os.path.relpath(project_root() / REPORT_PAGE),
        "runs": "make ui, which prints the address of the view to compare them",
        "use it": "plumage predict PHOTO...",
    })  # fmt: skip
    if warning := registered.get("warning"):
        out.print(shown(warning))


def ui(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 5000,
) -> None:
    """Show the runs and the registry in the browser, until Ctrl-C."""
    from plumage.tracking.ui import serve_ui

    serve_ui(project_root(), host, port)


def repair() -> None:
    """Repair what a kill or a full disk may leave: DVC's truncated files and unfinished copies, an incomplete mlflow.db."""
    from plumage.common.repair import repair as repair_files
    from plumage.tracking.repair import repair_database
    from plumage.tracking.store import tracking_uri

    root = project_root()
    for line in [*repair_files(root), *repair_database(tracking_uri(root))] or ["nothing to repair"]:
        out.print(line)


def params(
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema (docs/params.schema.json)")] = False,
) -> None:
    """Print the reference of params.yaml (docs/params.md)."""
    from plumage.cli.reference import json_schema, reference

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n" if schema else reference()
    print(text, end="")


def _accuracy(figures: Mapping[str, Any]) -> str:
    interval = figures["accuracy_ci95"]
    accuracy, low, high = (share(value, figures["n"]) for value in (figures["accuracy"], *interval.values()))
    return f"{accuracy}  (95%: {low} to {high}, {figures['n']:,} photos)"


def _report(file: Path) -> dict[str, Any]:
    report: dict[str, Any] = read_output(project_root() / file)
    return report
