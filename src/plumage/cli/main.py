"""The `plumage` command. Heavy modules are imported by the command that needs them, so that --help answers at once."""

import json
import os
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from plumage.common.paths import project_root
from plumage.errors import PlumageError
from plumage.params import load_params

if TYPE_CHECKING:
    from plumage.data.dataset.store import Dataset
    from plumage.registry.lineage_query import Lineage
    from plumage.registry.promotions import Promotion

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__.split(".")[0]
)
data = typer.Typer(no_args_is_help=True, help="Take photos out of the data set again, in their original bytes")
app.add_typer(data, name="data")
registry = typer.Typer(no_args_is_help=True, help="Which version of the registered model is champion, and why")
app.add_typer(registry, name="registry")
out = Console(highlight=False, markup=False, soft_wrap=True)


@app.command()
def predict(
    photos: Annotated[list[Path], typer.Argument(help="photo files", metavar="PHOTO...")],
    model: Annotated[
        str, typer.Option(help="a model's folder, or models:/NAME@ALIAS, or models:/NAME/VERSION")
    ] = "models",
    top: Annotated[int, typer.Option(min=1, help="classes to print for each photo")] = 5,
) -> None:
    """Print the most probable classes of photos. A file that is no photo gets a line on stderr, and exit code 1."""
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
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, probability in ranked:
            table.add_row(f"  {probability:7.2%}", name)
        out.print(photo)
        out.print(table)
    if failed:
        raise typer.Exit(1)


@app.command()
def train(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan, in seconds, and train nothing")] = False,
) -> None:
    """Train as params.yaml says: `dvc repro train`, or with --dry-run its plan."""
    if not dry_run:
        os.chdir(project_root())
        os.execv(sys.executable, [sys.executable, "-m", "dvc", "repro", "train"])
    from plumage.data.split.splits_file import read_split
    from plumage.training.plan import bar_chart, make_plan

    root = project_root()
    params = load_params(root / "params.yaml")
    dataset = _dataset()
    rows = read_split(_data() / "splits.csv", dataset)
    plan = make_plan(params.model, params.train.resolved(), dataset, rows, root)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key in params.flat():
        if key.startswith("train."):
            table.add_row(f"  {key}", str(plan.settings[key.removeprefix("train.")]))
    for key, value in plan.hardware.items():
        table.add_row(f"  {key}", value)
    out.print(table)
    if plan.learning_rates:
        out.print(f"\nlearning rate, to {max(plan.learning_rates):g}, over {len(plan.learning_rates):,} steps")
        for line in bar_chart(plan.learning_rates):
            out.print(f"  {line}")
    gigabytes = 1e9
    epochs = "" if not plan.seconds_per_epoch else f", {_time(plan.seconds_per_epoch)} an epoch"
    for what, said in {
        "photos": f"{plan.photos['train']:,} train, {plan.photos['val']:,} val, {plan.num_classes:,} classes, "
        f"{plan.image_size} pixels a side",
        "parameters": f"{plan.parameters:,}, of which {plan.trainable_parameters:,} learn",
        "computation": f"{plan.macs / 1e6:,.0f} million multiply-adds a photo",
        "memory": f"about {plan.memory / gigabytes:.1f} GB, of {plan.free_memory / gigabytes:.1f} GB that are free",
        "time": f"about {_time(plan.seconds)}{epochs}",
    }.items():
        out.print(f"{what:>14}  {said}")


@app.command()
def summary() -> None:
    """Say what the last `dvc repro` gave, and where to look."""
    test = _report("metrics.json")["test"]
    registered = _report("registry.json")
    interval, decision = test["accuracy_ci95"], registered["decision"]
    aliases = "".join(f" @{alias}" for alias in registered["aliases"])
    rows = {
        "test accuracy": f"{test['accuracy']:.3f}  (95%: {interval['low']:.3f} to {interval['high']:.3f}, {test['n']:,} photos)",
        "registered": f"{registered['name']} version {registered['version']}{aliases}: {decision['reason']}",
        "data": "reports/data.html",
        "report": "reports/report.html",
        "runs": "make ui, then the address that it prints",
        "use it": "plumage predict PHOTO...",
    }
    for what, value in rows.items():
        out.print(f"{what:>14}  {value}")


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 5000,
) -> None:
    """Show the runs and the registry in the browser, until Ctrl-C."""
    from plumage.tracking.ui import serve_ui

    serve_ui(project_root(), host, port)


@data.command("show")
def data_show(
    key: Annotated[str, typer.Argument(help="the photo's key, as in data/splits.csv and the reports")],
    to: Annotated[
        Path | None, typer.Option(help="file, or folder for it; default: its own name in the current folder")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="write over a file that is there")] = False,
) -> None:
    """Write one photo to a file, and say what the data set knows about it."""
    from plumage.data.split.export import show_photo

    shown = show_photo(_dataset(), key, _data() / "splits.csv", to, force)
    rows = {
        "photo": shown.key,
        "label": shown.label,
        "part": shown.part or "none (of the source)",
        "split": shown.split or "none (yet; `dvc repro split` draws it)",
        "size": f"{shown.width:,} x {shown.height:,} pixels, {shown.bytes:,} bytes",
        "written to": shown.file,
    }
    for what, value in rows.items():
        out.print(f"{what:>14}  {value}")


@data.command("export")
def data_export(
    folder: Annotated[Path, typer.Argument(help="a new or an empty folder")],
    parts: Annotated[
        bool, typer.Option(help="train|val|test/<class>/<file> after data/splits.csv, without the unused photos")
    ] = False,
) -> None:
    """Write all photos as class folders: <class>/<file>. They can be a data.source again."""
    from plumage.data.split.export import export_photos

    written = export_photos(_dataset(), folder, _data() / "splits.csv" if parts else None)
    out.print(f"{written:,} photos written to {folder}")


ModelName = Annotated[str | None, typer.Option("--model", help="its name; default: register.model_name of params.yaml")]
Reason = Annotated[str, typer.Option(help="why, for those who read the history")]


@registry.command("history")
def registry_history(
    model: ModelName = None,
    as_json: Annotated[bool, typer.Option("--json", help="print a list of all that is known")] = False,
) -> None:
    """Show every promotion: from which version to which, when, by whom, why. The newest is last."""
    from plumage.registry.promote import champions

    name = model or _model_name()
    found = champions(project_root(), name)
    if as_json:
        print(json.dumps([asdict(entry) for entry in found.history], indent=2, ensure_ascii=False))
        return
    if found.history:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("when (UTC)", "champion", "by"):
            table.add_column(heading, no_wrap=True)
        for heading in ("who", "why"):
            table.add_column(heading, overflow="fold")
        for entry in found.history:
            when = entry.when[:19].replace("T", " ")
            table.add_row(when, f"{entry.before or '–'} → {entry.to}", entry.how, entry.who, entry.why)
        out.print(table, soft_wrap=False)
    else:
        out.print(f"{name}: no promotions yet")
    last = found.history[-1].to if found.history else None
    if found.now != last:
        now = f"version {found.now}" if found.now else "none"
        out.print(
            f"the champion is {now}, which the history does not tell: a promotion was cut off, or the alias moved by other means"
        )


@registry.command("promote")
def registry_promote(
    version: Annotated[int, typer.Argument(min=1, help="the version's number")],
    reason: Reason = "",
    model: ModelName = None,
) -> None:
    """Make a version champion by hand, whatever the gate says."""
    from plumage.registry.promote import promote

    name = model or _model_name()
    _say_move(name, promote(project_root(), name, version, reason))


@registry.command("rollback")
def registry_rollback(
    version: Annotated[
        int | None, typer.Argument(min=1, help="one that was champion; default: the one before this")
    ] = None,
    reason: Reason = "",
    model: ModelName = None,
) -> None:
    """Go back to an earlier champion. The gate does not promote the version that is taken back again."""
    from plumage.registry.promote import rollback

    name = model or _model_name()
    _say_move(name, rollback(project_root(), name, version, reason))


@app.command()
def register() -> None:
    """Register the model that lies here, as the last stage does, and run no other: what MLflow lacks is brought back."""
    from plumage.common.dvc_status import check_current
    from plumage.registry.stage import register_outputs, verdict

    root = project_root()
    params = load_params(root / "params.yaml")
    check_current(root, params.data.path, "evaluate")
    os.chdir(root)
    shown = params.flat(but="register")
    outcome = register_outputs(root, params.tracking.experiment, params.register_, params.split.similarity, shown)
    out.print(verdict(outcome))


@app.command()
def lineage(
    what: Annotated[
        str,
        typer.Argument(
            help="a version (3, @champion, NAME@champion, models:/NAME/3), or a model's file", metavar="VERSION|FILE"
        ),
    ],
    model: ModelName = None,
    as_json: Annotated[bool, typer.Option("--json", help="print all that is known")] = False,
) -> None:
    """Say what a version was made from: code, data, parameters, packages, machine; or which version a file is of."""
    from plumage.registry.lineage_query import lineage_of, version_uri, versions_of_file

    root = project_root()
    if uri := version_uri(what, model or _model_name()):
        found = [lineage_of(uri, root)]
    else:
        versions = versions_of_file(Path(what), root)
        if not versions:
            raise PlumageError(
                f"{what}: no registered version has this file; `plumage register` registers the model here"
            )
        found = [lineage_of(f"models:/{version.name}/{version.version}", root) for version in versions]
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
        return
    for one in found:
        _print_lineage(one)


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="3, @champion, NAME@champion or models:/NAME/3", metavar="VERSION")],
    model: ModelName = None,
) -> None:
    """Make a version again, from its commit, in a temporary worktree, and say whether it came out the same."""
    from plumage.registry.lineage_query import version_uri
    from plumage.registry.reproduce import reproduce as make_again

    uri = version_uri(version, model or _model_name())
    if uri is None:
        raise PlumageError(f"{version}: takes a version: 3, @champion, NAME@champion or models:/NAME/3")
    result = make_again(uri, project_root())
    out.print()
    for thing in result.compared:
        said = f"the same ({thing.now})" if thing.same else f"differs: was {thing.before}, now {thing.now}"
        out.print(f"{thing.what}: {said}")
    same = all(thing.same for thing in result.compared)
    for line in result.unlike:
        out.print(f"not as then: {line}")
    out.print(f"{result.title}: {'all came out the same' if same else 'did not come out the same'}")
    if not same:
        raise typer.Exit(1)


@app.command()
def repair() -> None:
    """Mend what a DVC that was killed may have left: its own lock and dvc.lock half-written, copies unfinished."""
    from plumage.common.repair import repair as repair_files

    for line in repair_files(project_root()):
        out.print(line)


@app.command()
def params() -> None:
    """Print the reference of params.yaml (docs/params.md)."""
    from plumage.cli.reference import reference

    print(reference(), end="")


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _model_name() -> str:
    return load_params(project_root() / "params.yaml").register_.model_name


def _say_move(name: str, move: "Promotion") -> None:
    before = f", in place of version {move.before}" if move.before else ""
    out.print(f"{name}: version {move.to} is champion now{before}")


def _print_lineage(one: "Lineage") -> None:
    test = one.metrics.get("test", {})
    changes = f", with {len((one.diff or '').splitlines()):,} lines of uncommitted changes" if one.dirty else ", clean"
    shown = ("torch", "torchvision", "numpy", "pillow", "mlflow", "dvc")
    versions = ", ".join(f"{name} {one.packages[name]}" for name in shown if name in one.packages)
    rows = [
        ("registered", f"{one.registered} UTC"),
        ("commit", f"{one.commit}{changes}" if one.commit else "not made in a Git repository"),
        *(("DVC", f"{digest}  {path}") for path, digest in one.dvc.items()),
        *(("SHA-256", f"{digest}  {name}") for name, digest in one.sha256.items()),
        ("run", one.run + (f", restored from {one.restored_from}" if one.restored_from else "")),
        *((f"test {name}", f"{test[name]:g}") for name in ("accuracy", "macro_f1", "loss", "ece", "n") if name in test),
        *one.machine.items(),
        ("packages", f"{versions}; {len(one.packages):,} in all (--json)"),
        *((name, str(value)) for name, value in one.params.items() if value is not None),
        ("null", ", ".join(name for name, value in one.params.items() if value is None)),
    ]
    out.print(one.title)
    for name, value in rows:
        out.print(f"{name:>24}  {value}")


def _data() -> Path:
    return project_root() / "data"


def _dataset() -> "Dataset":
    from plumage.data.dataset.store import Dataset

    return Dataset(_data() / "dataset")


def _report(name: str) -> dict[str, Any]:
    path = project_root() / "reports" / name
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlumageError(f"{path} is not there; run `dvc repro`") from None
    return report


def main() -> None:
    """Run the command; a user's mistake is one line on stderr and exit code 1."""
    try:
        app()
    except PlumageError as error:
        sys.exit(f"error: {error}")
