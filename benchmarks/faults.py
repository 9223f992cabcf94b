"""Make each write, fsync, rename and unlink of the stages fail once, and run the stage again: `python benchmarks/faults.py`.

Each fails with EIO, with ENOSPC, and by a kill -9 in its place. The stage has to end with one line that names the file, or
to do without; then the next run has to give the bytes of an undisturbed one. Of several equal calls for one file the first
and the last are chosen (`--every`: all). A stage runs in a fork of this process, which has imported everything. The calls are
counted by a library that is preloaded (faults.c); those that SQLite makes are left to SQLite.
"""

import errno
import importlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from crashing import STAGES, TEMPORARY, Ended, Project

HERE = Path(__file__).resolve().parent
FAULTS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "kill -9": 0}
STORE = ("artifact.local_artifact_repo", "model_registry.sqlalchemy_store", "tracking.sqlalchemy_store")
CODE = "/code/plumage/"
"""Part of the paths of our code in a registered model, which MLflow copies file by file."""
Trial = tuple[str, Callable[[], str | None]]
"""A title, and what returns what went wrong; None if nothing did."""


def main(
    stages: Annotated[list[str] | None, typer.Option("--stage", help="only these")] = None,
    sample: Annotated[int | None, typer.Option(help="this many faults, drawn at random; default: all")] = None,
    kills: Annotated[int, typer.Option(help="also kill the stages this many times, at random moments")] = 0,
    match: Annotated[str, typer.Option(help="only calls in which this regular expression is found")] = "",
    every: Annotated[bool, typer.Option("--every", help="all of several equal calls for one file")] = False,
    seed: int = 0,
) -> None:
    """Crash the stages of a tiny pipeline, run each again, and print how many recovered."""
    rng, chosen = random.Random(seed), list(stages or STAGES)
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        sys.path[:0] = [str(project.folder / "src"), str(project.folder / "pipeline")]
        warm_up()
        project.prepare()
        faults = [
            (stage, at, name)
            for stage, at, name in all_faults(project, chosen, every)
            if re.search(match, project.calls[stage][at - 1])
        ]
        counts = ", ".join(f"{stage} {len(project.calls[stage]):,}" for stage in chosen)
        print(f"calls: {counts}; {len(faults):,} different faults", flush=True)
        trials = [
            fault_trial(project, *fault) for fault in (rng.sample(faults, sample) if sample is not None else faults)
        ]
        trials += [kill_trial(project, chosen[number % len(chosen)], rng) for number in range(kills)]
        failed = 0
        for title, trial in trials:
            problem = trial()
            failed += problem is not None
            print(f"{title}: {problem or 'same bytes'}", flush=True)
        print(f"{len(trials) - failed} of {len(trials)} recovered")
        sys.exit(failed > 0)


def fault_trial(project: Project, stage: str, at: int, name: str) -> Trial:
    """Let call `at` of `stage` fail, then run it again."""
    return f"{stage}: {name} at call {project.calls[stage][at - 1]}", lambda: crash(project, stage, at, name)


def kill_trial(project: Project, stage: str, rng: random.Random) -> Trial:
    """Kill `stage` at a random moment, then run it again."""
    moment = rng.uniform(0, project.seconds[stage])

    def trial() -> str | None:
        project.restore(stage)
        project.run(stage, kill_after=moment)
        return project.recovers(stage)

    return f"{stage}: killed after {moment:.2f} s", trial


def all_faults(project: Project, stages: list[str], every: bool) -> Iterator[tuple[str, int, str]]:
    """Stage, call and fault: of several equal calls for one file only the first and the last, unless `every`."""
    for stage in stages:
        numbers: dict[str, list[int]] = {}
        for number, call in enumerate(project.calls[stage], start=1):
            _, operation, path = call.split(" ", 2)
            numbers.setdefault(f"{operation} {'any' if CODE in path else path}", []).append(number)
        for same in numbers.values():
            for at in same if every else sorted({same[0], same[-1]}):
                for name in FAULTS:
                    yield stage, at, name


def crash(project: Project, stage: str, at: int, name: str) -> str | None:
    """Let call `at` of `stage` fail, or the process die there; then run it again. Return what is wrong; None: nothing."""
    project.restore(stage)
    ended = project.run(stage, at, FAULTS[name])
    killed = name == "kill -9"
    if killed and ended.code not in (-signal.SIGKILL, 0):  # 0: this run made fewer calls, and came to its end
        return f"was not killed: {ended.code}\n{ended.said}"
    if not killed and (problem := complaint(ended, at)):
        return problem
    if not killed and ended.code == 0 and (problem := project.difference(stage)):
        return f"after the fault, {problem}\n{ended.said}"
    return project.recovers(stage)


def complaint(ended: Ended, at: int) -> str | None:
    """What is wrong with what a stage printed whose call `at` failed: an error is one line, and names the file."""
    if ended.code == 0:
        return None
    errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    if len(errors) != 1 or "Traceback" in ended.said:
        return f"not one line:\n{ended.said}"
    if len(ended.calls) < at:
        return f"ended before the call: {errors[0]}"
    path = Path(ended.calls[at - 1].split(" ", 2)[2])
    names = {re.sub(r"^\.|(\.old)?(\.tmp)?(-journal|-wal|-shm)?$", "", part) for part in path.parts[-2:]}
    names |= {TEMPORARY} & {*path.parts}  # what MLflow writes there has names that tell a person nothing
    return None if any(name in errors[0] for name in names) else f"{path} is not named: {errors[0]}"


def warm_up() -> None:
    """Import what the stages import, so that a forked child has it."""
    for name in (*STAGES, "mlflow.pyfunc", *(f"mlflow.store.{part}" for part in STORE), "torch._inductor"):
        importlib.import_module(name)


def preloaded() -> None:
    """Start this script again with faults.c preloaded."""
    from plumage.accelerate.kernels import c_compiler

    compiler = c_compiler()
    assert compiler is not None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "faults.so")
        subprocess.run([*compiler, "-O1", "-shared", "-fPIC", str(HERE / "faults.c"), "-o", str(library)], check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment).returncode)


if __name__ == "__main__":
    if "LD_PRELOAD" in os.environ:
        typer.run(main)
    else:
        sys.path[:0] = [str(HERE.parent / "src")]
        preloaded()
