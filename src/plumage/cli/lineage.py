"""`plumage lineage` and `plumage reproduce`: where a version comes from, and making it again."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plumage.cli.shared import ModelName, model_name, out
from plumage.common.project import project_root, store_root
from plumage.common.text import shown, shown_json
from plumage.errors import PlumageError

if TYPE_CHECKING:
    from plumage.registry.lineage_query import Lineage


def lineage(
    what: Annotated[
        str,
        typer.Argument(
            help="a version (3, @champion, NAME@champion, models:/NAME/3), or a model's file", metavar="VERSION|FILE"
        ),
    ],
    model: ModelName = None,
    as_json: Annotated[bool, typer.Option("--json", help="print every detail")] = False,
) -> None:
    """Show what a version was made from (code, data, parameters, packages, machine), or which version a file belongs to."""
    from plumage.registry.lineage_query import lineage_of, version_uri, versions_of_file

    root = store_root()
    uri = version_uri(what, lambda: model_name(model))
    uris = [uri] if uri else [f"models:/{one.name}/{one.version}" for one in versions_of_file(Path(what), root)]
    if not uris:
        hint = "`plumage register` registers the current model"
        raise PlumageError(f"{what}: no registered version has this file; {hint}")
    found = [lineage_of(uri, root) for uri in uris]
    if as_json:
        print(shown_json([asdict(one) for one in found]))
        return
    for one in found:
        _print_lineage(one)


def reproduce(
    version: Annotated[str, typer.Argument(help="3, @champion, NAME@champion or models:/NAME/3", metavar="VERSION")],
    model: ModelName = None,
) -> None:
    """Make a version again from its commit, in a temporary worktree, and compare the results."""
    from plumage.registry import reproduce
    from plumage.registry.lineage_query import version_uri

    uri = version_uri(version, lambda: model_name(model))
    if uri is None:
        raise PlumageError(f"{version}: takes a version: 3, @champion, NAME@champion or models:/NAME/3")
    result = reproduce.reproduce(uri, project_root())
    out.print()
    for compared in result.compared:
        outcome = f"same ({compared.now})" if compared.same else f"differs: was {compared.before}, now {compared.now}"
        out.print(f"{compared.what}: {outcome}")
    for line in result.environment_changes:
        out.print(f"different environment: {line}")
    same = all(compared.same for compared in result.compared)
    out.print(f"{result.title}: {'reproduced exactly' if same else 'not reproduced exactly'}")
    if not same:
        raise typer.Exit(1)


def _print_lineage(one: "Lineage") -> None:
    test = one.metrics.get("test", {})
    changes = f", with {len((one.diff or '').splitlines()):,} lines of uncommitted changes" if one.dirty else ", clean"
    main_packages = ("torch", "torchvision", "numpy", "pillow", "mlflow", "dvc")
    versions = ", ".join(f"{name} {one.packages[name]}" for name in main_packages if name in one.packages)
    rows = [
        ("registered", f"{one.registered} UTC"),
        ("commit", f"{one.commit}{changes}" if one.commit else f"unknown: {one.no_commit or 'not recorded'}"),
        *(("DVC", f"{digest}  {path}") for path, digest in one.dvc.items()),
        *(("SHA-256", f"{digest}  {name}") for name, digest in one.sha256.items()),
        ("run", one.run + (", restored from files" if one.restored else "")),
        *((f"test {name}", f"{test[name]:g}") for name in ("accuracy", "macro_f1", "loss", "ece", "n") if name in test),
        *one.machine.items(),
        ("packages", f"{versions}; {len(one.packages):,} in all (--json)" if one.packages else "not recorded"),
        *((name, str(value)) for name, value in one.params.items() if value is not None),
    ]
    if nulls := [name for name, value in one.params.items() if value is None]:
        rows.append(("null", ", ".join(nulls)))
    out.print(one.title)
    for name, value in rows:
        out.print(f"{shown(name):>24}  {shown(value)}")
