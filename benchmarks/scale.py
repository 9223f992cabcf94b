"""Time and memory of the stages download and split, from 1,000 photos up."""

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from common import ROOT, ROUNDS, SIDE, SIZES, Rows, folder_of, measured

from plumage.common.paths import DATA_REPORT, DATASET, PARAMS, REPORTS
from plumage.data.dataset.ingest import ingest
from plumage.data.sources.folder import FolderSource

NOTE = (
    f"Drawn photos of {SIDE} pixels in class folders, in the system's page cache. "
    "Baseline: reading and hashing (SHA-256) the same files."
)


def measure(parent: Path, photos: Path | None) -> Rows:
    rows = []
    for count in SIZES:
        root, work = folder_of(count, parent), parent / "work"
        read_and_hash(root)  # both find the files in the system's cache
        baseline, ours, memory, split, split_memory = [], [], [], [], []
        for _ in range(ROUNDS):
            shutil.rmtree(work, ignore_errors=True)
            with measured() as usage:
                read_and_hash(root)
            baseline.append(usage.seconds)
            with measured() as usage:
                report = ingest(FolderSource(root), work / DATASET, 32, 0.01)
            ours.append(usage.seconds)
            memory.append(usage.megabytes)
            (work / REPORTS).mkdir()
            (work / DATA_REPORT).write_text(json.dumps(report))
            shutil.copy(ROOT / PARAMS, work)
            with measured(others_only=True) as usage:
                subprocess.run(
                    [sys.executable, ROOT / "pipeline/split.py"], cwd=work, check=True, stdout=subprocess.DEVNULL
                )
            split.append(usage.seconds)
            split_memory.append(usage.megabytes)
        rows.append({
            "photos": report["photos"],
            "read and hash, s": statistics.median(baseline),
            "folder to data set, s": statistics.median(ours),
            "ratio": statistics.median(ours) / statistics.median(baseline),
            "memory, MB": max(memory),
            "split, s": statistics.median(split),
            "split memory, MB": max(split_memory),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def read_and_hash(root: Path) -> None:
    for parent, _, names in os.walk(root):
        for name in names:
            with open(f"{parent}/{name}", "rb") as file:  # noqa: PTH123  # the fastest way
                hashlib.sha256(file.read()).digest()
