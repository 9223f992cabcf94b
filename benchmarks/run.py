"""Measure Plumage in half an hour: `python benchmarks/run.py` writes docs/benchmarks.md and docs/benchmarks.json.

Plumage and its peer run in turn in one process, ROUNDS times; figures are medians. The drawn photos are kept for the next run
(--folder). With --photos, near-duplicates and accuracy are also measured on that archive of real photos.
"""

import importlib
import json
import os
import platform
from pathlib import Path
from typing import Annotated, Any

import psutil
import torch
import typer
from common import ROOT, ROUNDS, Rows

from plumage.accelerate import kernels
from plumage.tracking.lineage import processor

MEASURED = (
    "scale", "formats", "near_duplicates", "dvc_costs", "million",
    "inference", "steps", "loaders", "epochs", "probe_cost", "accuracy", "memory",
)  # fmt: skip
"""The benchmark modules, each with a function `measure` and a NOTE for its table: the data stages, then training and evaluation.
Inference comes before the benchmarks that leave the process with memory that its peer would profit from."""


def main(
    folder: Annotated[Path, typer.Option(help="folder for the drawn photos, 850 MB, which are kept")] = ROOT / ".bench",
    photos: Annotated[
        Path | None, typer.Option(help="an archive of real photos, for near-duplicates and accuracy")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"some of {', '.join(MEASURED)}; the figures of others stay")
    ] = None,
) -> None:
    """Measure, and write the page."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = ROOT / "docs" / "benchmarks.json"
    results: dict[str, Any] = json.loads(figures.read_text()) if figures.exists() else {}
    for name in MEASURED:
        if name in (only or MEASURED):
            results.setdefault("machines", {})[name] = machine()
            results[name] = importlib.import_module(name).measure(folder.resolve(), photos)
            figures.write_text(json.dumps(results, indent=2) + "\n")
            figures.with_suffix(".md").write_text(markdown(results))


def markdown(results: dict[str, Any]) -> str:
    """Return docs/benchmarks.md."""
    text = ["# Benchmarks", "", f"By `python benchmarks/run.py` (`make bench`); medians of {ROUNDS} rounds, ours and the peer in",
            "turn. Memory is what all processes hold (RSS), mapped files included."]  # fmt: skip
    for name in MEASURED:
        if name in results:
            note, where = importlib.import_module(name).NOTE, f"On {results['machines'][name]}."
            text += ["", f"## {name.replace('_', ' ').capitalize()}", "", note, "", where, "", table(results[name])]
    return "\n".join(text) + "\n"


def table(rows: Rows) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}" if value <= 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([cell(row[name]) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    able = "with" if kernels.computes_bf16() else "without"
    cores = f"{os.cpu_count()} cores ({processor()}, {able} instructions for bf16)"
    return f"{cores}, {memory:.0f} GiB, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    typer.run(main)
