"""Reading and versioning photos in the data set's file format and in others."""

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import ROUNDS, Rows, folder_of

from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.folder import FolderSource

NOTE = "10,000 drawn photos of 224 pixels. Parquet has groups of 256 rows."


def measure(parent: Path, photos: Path | None) -> Rows:
    """One row per format: reads in order and at random, and DVC's commands."""
    root, work = folder_of(10_000, parent), parent / "formats"
    shutil.rmtree(work, ignore_errors=True)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    ingest(FolderSource(root), work / "arrow/x", 32, 0.01)
    dataset = Dataset(work / "arrow/x")
    shutil.copytree(root, work / "files/x")
    (work / "tar/x").mkdir(parents=True)
    with tarfile.open(work / "tar/x/photos.tar", "w") as archive:
        archive.add(root, "photos")
    (work / "parquet/x").mkdir(parents=True)
    pq.write_table(
        pa.table({"image": [file.read_bytes() for file in files]}),
        work / "parquet/x/photos.parquet",
        row_group_size=256,
    )
    (work / "sqlite/x").mkdir(parents=True)
    with sqlite3.connect(work / "sqlite/x/photos.db") as database:
        database.execute("create table photos (row integer primary key, image blob)")
        database.executemany(
            "insert into photos values (?, ?)", ((n, file.read_bytes()) for n, file in enumerate(files))
        )
    parquet = pq.ParquetFile(work / "parquet/x/photos.parquet", memory_map=True)
    tar = tarfile.open(work / "tar/x/photos.tar")  # noqa: SIM115
    members = {n: (m.offset_data, m.size) for n, m in enumerate(m for m in tar.getmembers() if m.isfile())}
    raw = (work / "tar/x/photos.tar").open("rb")
    copies = sorted(path for path in (work / "files/x").rglob("*") if path.is_file())

    def from_tar(row: int) -> int:
        raw.seek(members[row][0])
        return len(raw.read(members[row][1]))

    readers: dict[str, Callable[[int], int]] = {
        "arrow": lambda row: len(bytes(dataset.photo(row))),  # copied, as the others do; training takes the view
        "files": lambda row: len(copies[row].read_bytes()),
        "tar": from_tar,
        "parquet": lambda row: len(parquet.read_row_group(row // 256).column(0)[row % 256].as_py()),
        "sqlite": lambda row: len(database.execute("select image from photos where row = ?", (row,)).fetchone()[0]),
    }
    database = sqlite3.connect(work / "sqlite/x/photos.db")
    rng = np.random.default_rng(0)
    found: dict[str, dict[str, list[float]]] = {name: {"random": [], "in order": []} for name in readers}
    for _ in range(ROUNDS):
        for name, read in readers.items():
            for how, rows in (("random", rng.permutation(len(files))[:2000]), ("in order", range(len(files)))):
                if name == "parquet":
                    rows = rows[:200] if how == "random" else rows[:2000]
                start = time.perf_counter()
                for row in rows:
                    read(int(row))
                found[name][how].append((time.perf_counter() - start) / len(rows) * 1e6)
    rows = []
    for name in readers:
        folder = work / name
        environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(work / "site")}

        def dvc(*command: str, folder: Path = folder, environment: dict[str, str] = environment) -> float:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "dvc", "-q", *command], cwd=folder, env=environment, check=True)
            return time.perf_counter() - start

        dvc("init", "--no-scm")
        added = dvc("add", "x")
        status = dvc("status")
        shutil.rmtree(folder / "x")
        rows.append({
            "format": name, "files": sum(1 for path in (folder / ".dvc/cache").rglob("*") if path.is_file()),
            "random, us a photo": statistics.median(found[name]["random"]),
            "in order, us a photo": statistics.median(found[name]["in order"]),
            "dvc add, s": added, "dvc status, s": status, "dvc checkout, s": dvc("checkout"),
        })  # fmt: skip
        print(rows[-1], flush=True)
    shutil.rmtree(work)
    return rows
