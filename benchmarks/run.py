"""Measure speed and memory in about half an hour: `python benchmarks/run.py` writes docs/benchmarks.md and docs/benchmarks.json.

Each benchmark has a process of its own, in which ours and the baseline run alternately, ROUNDS times; figures are medians. Results of
other machines stay. Photos are drawn once and kept in --folder. With an archive of real photos (--photos), near-duplicates and accuracy
are measured on those too. gpu.py measures a GPU.
"""

import importlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from common import ROOT, ROUNDS
from tables import table

MEASURED = (
    "scale", "formats", "near_duplicates", "dvc_costs", "million",
    "inference", "busy", "steps", "loaders", "epochs", "probe_cost", "accuracy", "memory", "pages",
)  # fmt: skip
"""Modules in this folder, each with a function `measure` and a NOTE above its table. First the data stages, then training and evaluation.
Pages needs Chromium and its driver."""


def main(
    folder: Annotated[Path, typer.Option(help="where drawn photos are kept, 850 MB")] = ROOT / ".bench",
    photos: Annotated[Path | None, typer.Option(help="archive of real photos for near-duplicates and accuracy")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"run only this one, of {', '.join(MEASURED)}; other results stay")
    ] = None,
) -> None:
    """Run the benchmarks and write docs/benchmarks.md."""
    folder.mkdir(parents=True, exist_ok=True)
    names = only or MEASURED
    if len(names) > 1:  # memory and threads that one leaves would change another's figures
        given = ["--folder", folder, *(["--photos", photos] if photos else [])]
        for name in names:
            subprocess.run([sys.executable, __file__, *given, "--only", name], check=True)
    else:
        record(names[0], folder.resolve(), photos)


def record(name: str, folder: Path, photos: Path | None) -> None:
    """Run a benchmark and write its results with those that there are."""
    figures = ROOT / "docs" / "benchmarks.json"
    results: dict[str, Any] = json.loads(figures.read_text()) if figures.exists() else {}
    start = time.perf_counter()
    rows = importlib.import_module(name).measure(folder, photos)
    print(f"{name} took {time.perf_counter() - start:.0f} s", flush=True)
    results.setdefault(name, {})[machine()] = rows
    figures.write_text(json.dumps(results, indent=2) + "\n")
    figures.with_suffix(".md").write_text(markdown(results), encoding="utf-8")


def markdown(results: dict[str, Any]) -> str:
    """The results as a Markdown page."""
    text = ["# Benchmarks", "", f"Made by `python benchmarks/run.py` (`make bench`). Figures are medians of {ROUNDS} rounds;",
            "ours and the baseline take turns. Memory is the RSS of all processes, mapped files included. Of the drawn photos",
            "each is there eight times, turned and mirrored; on the Xeon and the EPYC with bf16, all were drawn."]  # fmt: skip
    for name in MEASURED:
        if name in results:
            text += ["", f"## {name.replace('_', ' ').capitalize()}", "", importlib.import_module(name).NOTE]
            for where, rows in results[name].items():
                text += ["", f"On {where}:", "", table(rows)]
    return "\n".join(text) + "\n"


def machine() -> str:
    import torch  # late: worker processes import this file, and the memory that they take is measured

    from plumage.accelerate import kernels
    from plumage.tracking.machine import processor

    memory = psutil.virtual_memory().total / 2**30
    precision = "bf16" if kernels.computes_bf16() else "fp32"
    cores = f"{os.cpu_count()} cores ({processor()}, where auto means {precision})"
    return f"{cores}, {memory:.0f} GiB, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    typer.run(main)
