"""Measure training and inference on one GPU: `python benchmarks/gpu.py --photos PHOTOS.tar --weights LITE0.pth`.

Results are written after each part, as gpu.json and gpu.md, so that a run that is cut off keeps what it has. torch.compile works on
the peers' networks from the start on, beside the first parts, which are not timed. Needs torch with CUDA, torchvision, timm, and
what `plumage.training` imports; neither MLflow nor DVC.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent)]

from on_gpu import epochs, exactness, inference, memory, recipes, steps  # noqa: E402
from on_gpu.common import CompiledPeer, Run  # noqa: E402
from tables import Rows, table  # noqa: E402

PARTS: dict[str, Callable[[Run], list[Rows]]] = {
    "exactness": exactness.measure,
    "steps": steps.measure,
    "inference": inference.measure,
    "epochs": epochs.measure,
    "recipes": recipes.measure,
    "memory": memory.measure,
}
NOTES = {
    "steps": steps.NOTE, "inference": inference.NOTE, "epochs": epochs.NOTE, "recipes": recipes.NOTE,
    "exactness": exactness.NOTE, "memory": memory.NOTE,
}  # fmt: skip
COMPILED = {"steps": steps.COMPILED, "inference": (inference.COMPILED,)}


def main(
    output: Annotated[Path, typer.Option(help="folder for gpu.json and gpu.md")] = Path(),
    photos: Annotated[
        Path | None, typer.Option(help="archive of real photos with train and valid; default: drawn")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="EfficientNet-Lite0's ImageNet weights, for the recipes")] = None,
    work: Annotated[Path, typer.Option(help="folder for photos and checkpoints")] = Path(".bench/gpu"),
    only: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(PARTS)}; other results stay")] = None,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the parts and write their results after each."""
    if not torch.cuda.is_available():
        sys.exit("error: this machine has no GPU that torch can use")
    if unknown := set(only or ()) - set(PARTS):
        sys.exit(f"error: --only: {unknown.pop()!r} is not one of its parts; takes {', '.join(PARTS)}")
    work.mkdir(parents=True, exist_ok=True)
    file = output / "gpu.json"
    run = Run(output, work.resolve(), photos, weights, json.loads(file.read_text()) if file.exists() else {})
    if child:
        as_child(run, *child.split(":"))
        return
    run.results["machine"] = (
        f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {sys.version.split()[0]}"
    )
    chosen = {name: part for name, part in PARTS.items() if name in (only or PARTS)}
    names = [name for part in chosen for name in COMPILED.get(part, ())]
    threads = max(1, (os.cpu_count() or 1) // (len(names) + 1))
    run.compiling = {name: CompiledPeer(run, name, threads) for name in names}
    try:
        if "epochs" in chosen:
            run.dataset()
            run.preparing = subprocess.Popen(run.command("photos:large"))
        for name, part in chosen.items():
            measure(run, name, part)
    finally:
        for process in [peer.process for peer in run.compiling.values()] + [run.preparing]:
            if process:
                process.kill()
    print(f"all: {time.perf_counter() - run.started:.0f} s", flush=True)


def measure(run: Run, name: str, part: Callable[[Run], list[Rows]]) -> None:
    """Run a part, and write and print its results."""
    before = time.perf_counter()
    try:
        run.results[name] = part(run)
    except Exception as error:  # the parts that follow still count
        traceback.print_exception(error)
    run.save(NOTES)
    for peer in COMPILED.get(name, ()):  # they take memory
        run.compiling[peer].process.kill()
    torch.cuda.empty_cache()
    for rows in filter(None, run.results.get(name, [])):
        print(table(rows), flush=True)
    print(f"{name}: {time.perf_counter() - before:.0f} s", flush=True)


def as_child(run: Run, task: str, name: str) -> None:
    """What this script does in a process of its own."""
    if task == "train":
        exactness.train_and_print_digest(run, name)
    elif task == "photos":
        epochs.large_photos(run)
    elif name == inference.COMPILED:
        inference.compile_and_answer()
    else:
        steps.compile_and_answer(name)


if __name__ == "__main__":
    typer.run(main)
