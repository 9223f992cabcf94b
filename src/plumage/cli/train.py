"""`plumage train`."""

import os
import sys
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from plumage.cli.shared import open_dataset, out, plain_table, print_rows, project_params
from plumage.common.merge_conflicts import check_merged
from plumage.common.paths import SPLITS
from plumage.common.project import project_root

if TYPE_CHECKING:
    from plumage.cli.plan import Plan


def train(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the plan, which takes seconds, and train nothing")
    ] = False,
) -> None:
    """Train as params.yaml says: run `dvc repro train`, or with --dry-run print its plan."""
    if not dry_run:
        check_merged(project_root())
        os.chdir(project_root())
        os.execv(sys.executable, [sys.executable, "-m", "dvc", "repro", "train"])
    from plumage.cli.plan import make_plan
    from plumage.data.split.splits_file import read_split
    from plumage.errors import TrackingError
    from plumage.registry.class_change import announce_before_training
    from plumage.tracking.store import use_store

    root, params = project_root(), project_params()
    dataset, rows = read_split(root / SPLITS, open_dataset())
    plan = make_plan(params.model, params.train.resolved(), dataset, rows, root)
    with suppress(TrackingError):  # no store yet, or out of reach
        use_store(root)
        announce_before_training(params, dataset.classes)
    _print_plan(plan, [key.removeprefix("train.") for key in params.flat() if key.startswith("train.")])


def _print_plan(plan: "Plan", keys: list[str]) -> None:
    from plumage.cli.plan import bar_chart

    table = plain_table()
    for key in keys:
        table.add_row(f"  train.{key}", str(plan.settings[key]))
    for key, value in plan.hardware.items():
        table.add_row(f"  {key}", value)
    out.print(table)
    if plan.learning_rates:
        out.print()
        out.print(f"learning rate, up to {max(plan.learning_rates):g}, over {len(plan.learning_rates):,} steps")
        for line in bar_chart(plan.learning_rates):
            out.print(f"  {line}")
    gigabytes = 1e9
    per_epoch = "" if not plan.seconds_per_epoch else f", {_time(plan.seconds_per_epoch)} per epoch"
    print_rows({
        "photos": f"{plan.photos['train']:,} train, {plan.photos['val']:,} val, {plan.num_classes:,} classes",
        "input": f"{plan.image_size} x {plan.image_size} pixels",
        "parameters": f"{plan.parameters:,}, {plan.trainable_parameters:,} trainable",
        "computation": f"{plan.macs / 1e6:,.0f} million multiply-adds per photo",
        "memory": f"about {plan.memory / gigabytes:.1f} GB of {plan.free_memory / gigabytes:.1f} GB free",
        "time": f"about {_time(plan.seconds)}{per_epoch}",
    })  # fmt: skip


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
