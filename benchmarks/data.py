"""The data stages measured, in about an hour: `python benchmarks/data.py` writes docs/benchmarks/data.md and data.json.

Ours and the peer run alternately in this one process, ROUNDS times; figures are medians. Photos are drawn once, into a
folder that is kept (--folder). Near-duplicates are also measured on real photos when --photos names an archive of them.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from plumage.config import Split  # noqa: E402
from plumage.data.decode import decode  # noqa: E402
from plumage.data.ingest import ingest  # noqa: E402
from plumage.data.near_duplicates import group_near_duplicates  # noqa: E402
from plumage.data.sources.archive import ArchiveSource  # noqa: E402
from plumage.data.sources.folder import FolderSource  # noqa: E402
from plumage.data.sources.sample import SampleSource, draw_photo  # noqa: E402
from plumage.data.store import Dataset  # noqa: E402
from plumage.data.workers import map_in_processes  # noqa: E402

SIZES = (1_000, 10_000, 58_400)
ROUNDS = 3
SIDE = 224
PER_CLASS = 146
MEASURED = ("scale", "formats", "near_duplicates", "pipeline", "million")


class Usage:
    """The seconds that a piece of work took, and the most memory that it and its processes held, in MB."""

    seconds: float
    megabytes: float


@contextmanager
def measured(others_only: bool = False) -> Iterator[Usage]:
    """With `others_only`, this process itself doesn't count."""
    usage, done, me = Usage(), threading.Event(), psutil.Process()
    peak = 0

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            held = 0
            for process in [*([] if others_only else [me]), *me.children(recursive=True)]:
                with suppress(psutil.Error):
                    held += process.memory_info().rss
            peak = max(peak, held)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    yield usage
    usage.seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    usage.megabytes = peak / 1e6


def write_photos(photos: list[Any]) -> None:
    for photo, root in photos:
        path = Path(root, photo.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.data)


def draw(job: tuple[Callable[[], list[Any]], str]) -> None:
    load, root = job
    write_photos([(photo, root) for photo in load()])


def folder_of(photos: int, parent: Path) -> Path:
    """A folder of about so many drawn photos, kept for the next time."""
    classes = max(4, photos // PER_CLASS)
    root = parent / f"{photos}x{SIDE}"
    if not root.is_dir():
        draft = parent / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        source = SampleSource(classes, photos // classes, SIDE, 0)
        for _ in map_in_processes(draw, ((load, str(draft)) for load in source.loads())):
            pass
        draft.rename(root)
    return root


def read_and_hash(root: Path) -> None:
    for parent, _, names in os.walk(root):
        for name in names:
            with open(f"{parent}/{name}", "rb") as file:  # noqa: PTH123  # the quickest way
                hashlib.sha256(file.read()).digest()


def scale(parent: Path) -> list[dict[str, Any]]:
    rows = []
    for photos in SIZES:
        root, work = folder_of(photos, parent), parent / "work"
        read_and_hash(root)  # both find the files in the system's cache
        peer, ours, memory, split, split_memory = [], [], [], [], []
        for _ in range(ROUNDS):
            shutil.rmtree(work, ignore_errors=True)
            with measured() as usage:
                read_and_hash(root)
            peer.append(usage.seconds)
            with measured() as usage:
                report = ingest(FolderSource(root), work / "data/dataset", 32, 0.01)
            ours.append(usage.seconds)
            memory.append(usage.megabytes)
            (work / "reports").mkdir()
            (work / "reports/data.json").write_text(json.dumps(report))
            shutil.copy(ROOT / "params.yaml", work)
            with measured(others_only=True) as usage:
                subprocess.run(
                    [sys.executable, ROOT / "pipeline/split.py"], cwd=work, check=True, stdout=subprocess.DEVNULL
                )
            split.append(usage.seconds)
            split_memory.append(usage.megabytes)
        rows.append({
            "photos": report["photos"],
            "read and hash, s": statistics.median(peer),
            "folder to data set, s": statistics.median(ours),
            "ratio": statistics.median(ours) / statistics.median(peer),
            "memory, MB": max(memory),
            "split, s": statistics.median(split),
            "memory of split, MB": max(split_memory),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def paint(rows: range) -> list[bytes]:
    """Soft random colours, 32 pixels: photos to the stages, and much quicker to make than birds."""
    photos = []
    for row in rows:
        colors = Image.fromarray(np.random.default_rng(row).integers(0, 255, (10, 10, 3), dtype=np.uint8))
        file = io.BytesIO()
        colors.resize((32, 32), Image.Resampling.BICUBIC).save(file, "JPEG")
        photos.append(file.getvalue())
    return photos


def million(parent: Path) -> list[dict[str, Any]]:
    """A million photos of 32 pixels, a tar of 1,000 classes, through both stages as DVC runs them."""
    work = parent / "million"
    shutil.rmtree(work, ignore_errors=True)
    (work / "reports").mkdir(parents=True)
    with tarfile.open(work / "photos.tar", "w") as archive:
        per_class = 1_000
        classes = map_in_processes(paint, (range(start, start + per_class) for start in range(0, 1_000_000, per_class)))
        for number, photos in enumerate(classes):
            for place, photo in enumerate(photos):
                member = tarfile.TarInfo(f"CLASS {number:03d}/{place:03d}.jpg")
                member.size = len(photo)
                archive.addfile(member, io.BytesIO(photo))
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"source": "archive", "path": "photos.tar"}
    (work / "params.yaml").write_text(yaml.safe_dump(params))
    rows = []
    for stage in ("download", "split"):
        with measured(others_only=True) as usage:
            subprocess.run([sys.executable, ROOT / f"pipeline/{stage}.py"], cwd=work, check=True)
        rows.append({"stage": stage, "s": usage.seconds, "memory, MB": usage.megabytes})
        print(rows[-1], flush=True)
    shutil.rmtree(work)
    return rows


def pipeline(parent: Path) -> list[dict[str, Any]]:
    """What DVC takes with 58,400 photos behind it: a `dvc repro` with nothing to do, a queued experiment.

    The outputs of training and what follows are placeholders, committed to DVC as theirs: it can't tell.
    """
    from clone import Clone  # here: worker processes import this file too, and Clone brings MLflow

    photos = SIZES[-1]
    root = folder_of(photos, parent)
    packed = parent / f"{photos}.tar"
    if not packed.is_file():
        with tarfile.open(packed, "w") as archive:
            for folder in sorted(root.iterdir()):
                archive.add(folder, folder.name)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    rows = []
    for source, data in (
        ("archive", {"source": "archive", "path": str(packed)}),
        ("folder", {"source": "folder", "path": str(root)}),
    ):
        shutil.rmtree(parent / "pipeline", ignore_errors=True)
        clone = Clone.of_working_tree(parent / "pipeline")
        clone.set(data=data)
        clone.commit()
        with measured() as first:
            clone.run("dvc", "repro", "split", limit=3600)
        for stage in ("train", "evaluate", "register"):
            for output in [*stages[stage]["outs"], *stages[stage].get("metrics", [])]:
                path = clone.folder / output
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("a placeholder")
            clone.run("dvc", "commit", "-f", stage)
        clone.commit()
        nothing = []
        for _ in range(ROUNDS):
            with measured() as usage:
                assert "up to date" in clone.run("dvc", "repro")
            nothing.append(usage.seconds)
        started = []
        for number in range(ROUNDS):
            clone.run(
                "dvc", "exp", "run", "--queue", "-n", f"queued-{number}", "-S", f"train.lr={0.001 + number / 1e6}"
            )
            start = time.perf_counter()
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # the worker would hold a pipe open
            subprocess.run(["dvc", "queue", "start"], cwd=clone.folder, env=clone.environment, check=True, **quiet)
            while not any("pipeline/train.py" in process.info["cmdline"] for process in with_command_lines()):
                time.sleep(0.05)
            started.append(time.perf_counter() - start)
            for process in with_command_lines():  # the worker, what it started, and the training
                with suppress(psutil.Error):
                    if Path(process.cwd()).is_relative_to(clone.folder):
                        process.kill()
        rows.append({
            "source": source, "photos": photos, "first dvc repro split, s": first.seconds,
            "dvc repro with nothing to do, s": statistics.median(nothing),
            "queue start to the train stage, s": statistics.median(started),
        })  # fmt: skip
        print(rows[-1], nothing, started, flush=True)
        shutil.rmtree(parent / "pipeline")
    return rows


def with_command_lines() -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]


def near_duplicates(name: str, pictures: list[Any]) -> list[dict[str, Any]]:
    from altered import CHANGES, resaved, thumbnails

    similarity = Split().similarity
    assert similarity is not None
    count = len(pictures)
    originals = [resaved(picture) for picture in pictures]
    rows = []
    for change, (alter, _) in CHANGES.items():
        rng = np.random.default_rng(0)
        copies = [alter(picture, rng) for picture in pictures]
        groups = group_near_duplicates(thumbnails(originals + copies), similarity)
        pairs = {(a, b) for group in groups for a in group for b in group if a < b}
        true = {(a, b) for a, b in pairs if b == a + count}
        rows.append({
            "photos": name, "copies": change, "pictures": count,
            "recall": len(true) / count, "precision": len(true) / max(1, len(pairs)),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def formats(parent: Path) -> list[dict[str, Any]]:
    """What 10,000 photos cost in other formats: as DVC data, read in order, and photo by photo at random."""
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


def table(rows: list[dict[str, Any]]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}" if value <= 1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"
        return f"{value:,}" if isinstance(value, int) else str(value)

    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([cell(row[name]) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores ({platform.processor() or platform.machine()}), {memory:.0f} GiB, Python {platform.python_version()}"


def main(
    folder: Annotated[Path, typer.Option(help="for the drawn photos, 850 MB, which are kept")] = ROOT / ".bench",
    photos: Annotated[Path | None, typer.Option(help="an archive of real photos, for near-duplicates")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"of {', '.join(MEASURED)}; what is not measured stays as it was")
    ] = None,
) -> None:
    """Measure, and write docs/benchmarks/data.md and data.json."""
    only = only or list(MEASURED)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    out = ROOT / "docs" / "benchmarks"
    out.mkdir(exist_ok=True)
    results: dict[str, Any] = json.loads((out / "data.json").read_text()) if (out / "data.json").exists() else {}
    results["machine"] = machine()
    if "scale" in only:
        results["scale"] = scale(folder)
    if "formats" in only:
        results["formats"] = formats(folder)
    if "near_duplicates" in only:
        drawn = [draw_photo(0, species, individual, 96) for species in range(100) for individual in range(20)]
        results["near_duplicates"] = near_duplicates("sample", drawn)
        if photos:
            from support import read_all

            real = [decode(photo.data) for photo in read_all(ArchiveSource(photos, folder / "unpacked"))]
            results["near_duplicates"] += near_duplicates(photos.name, real)
    if "pipeline" in only:
        results["pipeline"] = pipeline(folder)
    if "million" in only:
        results["million"] = million(folder)
    (out / "data.json").write_text(json.dumps(results, indent=2) + "\n")
    parts = {
        "scale": f"Drawn photos of {SIDE} pixels, a folder of class folders, in the system's cache. Peer: reading and hashing "
        "(SHA-256) the same files.",
        "formats": "10,000 of these photos. Parquet has groups of 256 rows.",
        "near_duplicates": "A changed copy of each photo beside it, `split.similarity` at its default; a pair is right when it "
        "is a photo and its copy.",
        "pipeline": "58,400 photos of 224 pixels, all five stages; the outputs of training and what follows are placeholders.",
        "million": "A million photos of 32 pixels in a tar: `pipeline/download.py`, then `pipeline/split.py`.",
    }
    text = ["# The data stages, measured", "", f"By `python benchmarks/data.py` (`make bench`) on {results['machine']}; medians of",
            f"{ROUNDS} rounds, ours and the peer in turn. Memory is what all processes hold (RSS), mapped files included."]  # fmt: skip
    for name, note in parts.items():
        if name in results:
            text += ["", f"## {name.replace('_', ' ').capitalize()}", "", note, "", table(results[name])]
    (out / "data.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    typer.run(main)
