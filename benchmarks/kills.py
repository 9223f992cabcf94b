"""Kill `dvc repro` 100 times from the start of its process on, and run it again: `python benchmarks/kills.py` (about an hour).

Each stage is killed, with all its processes, at a multiple of 0.2 s in the first ten seconds, or at a random
moment. After `plumage repair`, as `make repro` calls it, the next run has to end with the bytes of an undisturbed one.
faults.py instead makes single writes fail.
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Annotated

import typer
from crashing import STAGES, Ended, Project

STEP, FIRST_SECONDS = 0.2, 10.0


class DvcProject(Project):
    """A tiny project whose stages `dvc repro` runs, in processes of their own."""

    def run(self, stage: str, at: int = 0, error: int = 0, kill_after: float | None = None) -> Ended:
        """Run `dvc repro` for `stage`; kill its process group after some seconds."""
        process = self.clone.start("dvc", "repro", stage)
        try:
            said, _ = process.communicate(timeout=kill_after)
        except TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
        return Ended(process.returncode, said, [])

    def recovers(self, stage: str) -> str | None:
        """Repair and run `stage` again. Return what differs from an undisturbed run; None if nothing does."""
        self.clone.run("plumage", "repair")
        return super().recovers(stage)


def moments(seconds: dict[str, float], kills: int, rng: random.Random) -> list[tuple[str, float]]:
    """Stages, and after how many seconds each is killed: half of them at the steps, half at random. All run that long."""
    steps = [STEP * number for number in range(1, round(FIRST_SECONDS / STEP) + 1)][: kills - kills // 2]
    chosen = []
    for number, moment in enumerate(steps):
        lasting = [stage for stage in STAGES if seconds[stage] > moment] or [
            max(STAGES, key=lambda stage: seconds[stage])
        ]
        chosen.append((lasting[number % len(lasting)], moment))
    for number in range(kills - len(steps)):
        stage = STAGES[number % len(STAGES)]
        chosen.append((stage, rng.uniform(0, seconds[stage])))
    return chosen


def main(kills: Annotated[int, typer.Option(min=2)] = 100, seed: int = 0) -> None:
    """Kill the stages, run them again, and print how many gave the bytes of an undisturbed run."""
    failed = hit = 0
    with tempfile.TemporaryDirectory() as folder:
        project = DvcProject(Path(folder))
        project.prepare()
        for stage, moment in moments(project.seconds, kills, random.Random(seed)):
            started = time.monotonic()
            project.restore(stage)
            hit += project.run(stage, kill_after=moment).code == -signal.SIGKILL
            problem = project.recovers(stage)
            failed += problem is not None
            print(
                f"{stage}, killed after {moment:.1f} s: {problem or 'same bytes'} ({time.monotonic() - started:.0f} s)",
                flush=True,
            )
    print(f"{kills - failed} of {kills} recovered; {hit} were still running when they were killed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    typer.run(main)
