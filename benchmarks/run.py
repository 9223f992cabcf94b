"""Measure speed and memory in about half an hour: `python benchmarks/run.py` writes docs/benchmarks.md and docs/benchmarks.json.

Each benchmark has a process of its own, in which ours and the baseline run alternately, ROUNDS times; figures are medians. Results of
other machines stay. Photos are drawn once and kept in --folder. With an archive of real photos (--photos), near-duplicates and accuracy
are measured on those too. gpu.py measures a GPU.
"""

import importlib
import json
import os
import platform
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from common import ROOT, ROUNDS
from tables import table

FIGURES = ROOT / "docs" / "benchmarks.json"
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
    if unknown := set(only or ()) - set(MEASURED):
        sys.exit(f"error: --only: {unknown.pop()!r} is not one of its parts; takes {', '.join(MEASURED)}")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name in only or MEASURED:  # memory and threads that one leaves would change another's figures
            process = get_context("spawn").Process(target=record, args=(name, folder.resolve(), photos))
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(process.exitcode)
    finally:
        FIGURES.with_suffix(".md").write_text(markdown(figures()), encoding="utf-8")


def record(name: str, folder: Path, photos: Path | None) -> None:
    """Run a benchmark and write its results with those that there are."""
    start = time.perf_counter()
    rows = importlib.import_module(name).measure(folder, photos)
    print(f"{name} took {time.perf_counter() - start:.0f} s", flush=True)
    results = figures()
    results.setdefault(name, {})[machine()] = rows
    FIGURES.write_text(json.dumps(results, indent=2) + "\n")


def figures() -> dict[str, Any]:
    """The results that there are, by benchmark and machine."""
    found: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    return found


def markdown(results: dict[str, Any]) -> str:
    """The results as a Markdown page."""
    text = ["# Benchmarks", "", f"Made by `python benchmarks/run.py` (`make bench`). Figures are medians of {ROUNDS} rounds;",
            "ours and the baseline take turns. Memory is the RSS of all processes, mapped files included. Of the drawn photos",
            "each is there eight times, turned and mirrored; on the Xeon without AMX and the EPYC with bf16, all were drawn."]  # fmt: skip
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
    amx = "with AMX" if torch.cpu.get_capabilities().get("amx_bf16") else "without AMX"
    name = f"{processor()} {amx}" if kernels.is_intel() else processor()
    precision = "bf16" if kernels.computes_bf16() else "fp32"
    cores = f"{os.cpu_count()} cores ({name}, where auto means {precision})"
    return f"{cores}, {memory:.0f} GiB, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    typer.run(main)
