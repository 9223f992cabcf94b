"""Shared by the benchmarks: drawn photos, timing and memory. Importing it puts src/ and tests/ on the import path."""

import ctypes
import io
import math
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from tables import Rows  # noqa: E402, F401

from plumage.common.workers import map_in_processes  # noqa: E402
from plumage.data.dataset.ingest import ingest  # noqa: E402
from plumage.data.dataset.store import Dataset  # noqa: E402
from plumage.data.sources.folder import FolderSource  # noqa: E402
from plumage.data.sources.sample import JPEG_QUALITY, SampleSource  # noqa: E402

SIZES = (1_000, 10_000, 58_400)
ROUNDS = 3
SIDE = 224
PER_CLASS = 146
TURNS = (None, *Image.Transpose)


class Usage:
    """Seconds that a piece of work took, and peak memory of it and its child processes, in MB (RSS)."""

    seconds: float
    megabytes: float


@contextmanager
def measured(others_only: bool = False) -> Iterator[Usage]:
    """Measure the block's time and peak memory; with `others_only`, leave this process's own memory out."""
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


def plain_memory() -> None:
    """Undo `keep_memory` for a baseline: set glibc's limits to the largest values that it reaches by itself."""
    if sys.platform == "linux":
        with suppress(AttributeError):
            libc = ctypes.CDLL(None)
            libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD
            libc.mallopt(-1, 64 * 2**20)  # M_TRIM_THRESHOLD
            libc.malloc_trim(0)


def in_turn(work: dict[str, Callable[[], object]], rounds: int = ROUNDS, warm: bool = False) -> dict[str, float]:
    """Median seconds of each piece of work. They take turns in every round; unless all are `warm`, the first doesn't count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + (not warm)):
        for name, do in work.items():
            start = time.perf_counter()
            do()
            if warm or number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def dataset_of(photos: int, folder: Path) -> tuple[Path, Dataset]:
    """A folder of about `photos` drawn photos, and its data set."""
    root = folder_of(photos, folder)
    ingest(FolderSource(root), folder / "dataset", min_size=1, max_refused=1)
    return root, Dataset(folder / "dataset")


def draw(job: tuple[Callable[[], list[Any]], Path, int]) -> None:
    chunk, root, per_class = job
    for photo in chunk():
        drawn = Image.open(io.BytesIO(photo.data))
        first = len(TURNS) * int(Path(photo.key).stem)
        folder = root / photo.label
        folder.mkdir(parents=True, exist_ok=True)
        for number, turn in enumerate(TURNS[: per_class - first], first):
            turned = drawn if turn is None else drawn.transpose(turn)
            turned.save(folder / f"{number:04d}.jpg", quality=JPEG_QUALITY)


def folder_of(photos: int, parent: Path) -> Path:
    """A folder of about `photos` drawn photos, kept for the next run. Each is there eight times, turned and mirrored."""
    classes = max(4, photos // PER_CLASS)
    per_class = photos // classes
    root = parent / f"{photos}x{SIDE}-turned"
    if not root.is_dir():
        draft = parent / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        source = SampleSource(classes, math.ceil(per_class / len(TURNS)), SIDE, 0)
        for _ in map_in_processes(draw, ((chunk, draft, per_class) for chunk in source.chunks())):
            pass
        draft.rename(root)
    return root
