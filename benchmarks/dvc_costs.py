"""DVC's own time with many photos."""

import shutil
import statistics
import subprocess
import tarfile
import time
from pathlib import Path

import psutil
from common import ROUNDS, SIDE, SIZES, Rows, folder_of, measured  # isort: split

from clone import Clone, stage_outputs
from killing import kill_all_of

NOTE = (
    f"{SIZES[-1]:,} photos of {SIDE} pixels, all stages. The outputs of train and the later stages are placeholders, committed "
    "to DVC; DVC treats them like real ones."
)


def measure(parent: Path, photos: Path | None) -> Rows:
    """Time a first `dvc repro` of the data stages, one with nothing to do, and a queued experiment up to its train stage."""
    count = SIZES[-1]
    root = folder_of(count, parent)
    packed = parent / f"{count}.tar"
    if not packed.is_file():
        with tarfile.open(packed, "w") as archive:
            for folder in sorted(root.iterdir()):
                archive.add(folder, folder.name)
    rows = []
    for source, data in (
        ("archive", {"source": "archive", "path": str(packed)}),
        ("folder", {"source": "folder", "path": str(root)}),
    ):
        shutil.rmtree(parent / "pipeline", ignore_errors=True)
        clone = Clone.of_working_tree(parent / "pipeline", cold=True)
        clone.set(data=data)
        clone.commit()
        with measured() as first:
            clone.run("dvc", "repro", "split", limit=3600)
        placeholders = ("train", "folds", "evaluate", "register")
        for output in (output for stage in placeholders for output in stage_outputs(stage)):
            path = clone.folder / output
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a placeholder")
        clone.run("dvc", "commit", "-f", *placeholders)
        clone.commit()
        nothing = []
        for _ in range(ROUNDS):
            with measured() as usage:
                assert "up to date" in clone.run("dvc", "repro")
            nothing.append(usage.seconds)
        started = []
        rates = ",".join(str(0.001 + number / 1e6) for number in range(ROUNDS))
        clone.run("dvc", "exp", "run", "--queue", "-S", f"train.lr={rates}")
        for _ in range(ROUNDS):
            start = time.perf_counter()
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # the worker would hold a pipe open
            subprocess.run(["dvc", "queue", "start"], cwd=clone.folder, env=clone.environment, check=True, **quiet)
            while not any(
                "pipeline/train.py" in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
            ):
                time.sleep(0.05)
            started.append(time.perf_counter() - start)
            kill_all_of(clone.folder)  # the worker, what it started, and the training
        rows.append({
            "source": source, "photos": count, "first dvc repro split, s": first.seconds,
            "dvc repro with nothing to do, s": statistics.median(nothing),
            "queue start to the train stage, s": statistics.median(started),
        })  # fmt: skip
        print(rows[-1], nothing, started, flush=True)
        shutil.rmtree(parent / "pipeline")
    return rows
