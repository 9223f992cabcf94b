"""What the parts share: where things are, random photos, the peers' networks, and pieces of work that take turns."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import torch
from tables import table
from torch import Tensor, nn

from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.sample import SampleSource

SCRIPT = Path(__file__).resolve().parents[1] / "gpu.py"
CUDA = torch.device("cuda")
CLASSES, SIDE, ROUNDS = 100, 224, 3
COMPILE_SECONDS = 240
"""After which what torch.compile has not finished is given up."""
Work = Callable[[float], float]
"""Seconds that a piece of work takes, on average over this many seconds."""


@dataclass
class Run:
    """The paths of photos and weights, the results so far, and the processes that compile peers in the background."""

    output: Path
    work: Path
    photos: Path | None
    weights: Path | None
    results: dict[str, Any]
    compiling: dict[str, "CompiledPeer"] = field(default_factory=dict)
    preparing: subprocess.Popen[bytes] | None = None
    """What makes the photos of the part `epochs`."""
    started: float = field(default_factory=time.perf_counter)

    def dataset(self) -> Dataset:
        """The photos as a data set, made on the first call."""
        folder = self.work / "dataset"
        if not folder.is_dir():
            source = ArchiveSource(self.photos, self.work) if self.photos else SampleSource(CLASSES, 40, SIDE, 0)
            ingest(source, folder, min_size=1, max_refused=1, processes=0)
        return Dataset(folder)

    def command(self, child: str) -> list[str]:
        """This script with a task for a process of its own."""
        photos = ["--photos", str(self.photos.resolve())] if self.photos else []
        return [sys.executable, str(SCRIPT), "--work", str(self.work), *photos, "--child", child]

    def save(self, notes: dict[str, str]) -> None:
        """Write gpu.json and gpu.md, with a note for each part."""
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / "gpu.json").write_text(json.dumps(self.results, indent=2) + "\n")
        text = ["# GPU benchmarks", "", f"Made by `python benchmarks/gpu.py`. Rates are medians of {ROUNDS} rounds in turn.", "",
                f"On {self.results['machine']}."]  # fmt: skip
        for name in (name for name in notes if name in self.results):
            text += ["", f"## {name.capitalize()}", "", notes[name], ""]
            text += ["\n\n".join(map(table, filter(None, self.results[name])))]
        (self.output / "gpu.md").write_text("\n".join(text) + "\n")


class CompiledPeer:
    """A network in a process of its own, which compiles it and then works whenever it is asked to."""

    def __init__(self, run: Run, name: str, threads: int) -> None:
        self.name, self.started = name, time.perf_counter()
        environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": str(threads)}
        command = run.command(f"compile:{name}")
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answers: Queue[dict[str, float] | None] = Queue()
        """None: the process has ended."""
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self._answers.put(json.loads(line))
        self._answers.put(None)

    def compiled(self) -> dict[str, float] | None:
        """Wait for the compiler. What the process then says of its work; None if it failed or took too long."""
        try:
            return self._answers.get(timeout=max(0.1, self.started + COMPILE_SECONDS - time.perf_counter()))
        except Empty:
            print(f"{self.name}: given up after {COMPILE_SECONDS} s", flush=True)
            self.process.kill()
            return None

    def work(self, batch: int) -> Work:
        """Its work on a batch of this size."""
        return lambda seconds: self._ask(batch, seconds)

    def _ask(self, batch: int, seconds: float) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{batch} {seconds}\n")
        self.process.stdin.flush()
        said = self._answers.get(timeout=60)
        if said is None:
            raise RuntimeError(f"{self.name}: the process has ended")
        return said["seconds"]


def answer(works: dict[int, Callable[[], object]], **facts: float) -> None:
    """The other end of a CompiledPeer: say that `works`, by batch size, are compiled, and do what is asked for."""
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        batch, seconds = line.split()
        print(json.dumps({"seconds": averaged(works[int(batch)], float(seconds))}), flush=True)


def peer(name: str) -> nn.Module:
    """EfficientNet-B0 of timm or of torchvision."""
    if name.startswith("timm"):
        import timm

        return timm.create_model("efficientnet_b0", num_classes=CLASSES)
    from torchvision.models import efficientnet_b0

    return efficientnet_b0(num_classes=CLASSES)


def on_gpu(network: nn.Module) -> nn.Module:
    """The network on the GPU, in channels_last memory."""
    return network.to(CUDA, memory_format=torch.channels_last)  # type: ignore[call-overload]


def random_photos(batch: int) -> Tensor:
    return torch.randn(batch, 3, SIDE, SIDE, device=CUDA).to(memory_format=torch.channels_last)


def be_free(batch: int) -> None:
    """Let torch use kernels that are not deterministic, and search for the fastest ones if the GPU is what limits."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = batch >= 256


def warmed_up(make: Callable[[], Callable[[], object]]) -> tuple[Callable[[], object], dict[str, float]]:
    """What `make` returns, called three times. Then the seconds that all took, and the peak of memory in GB that it added."""
    before, started = torch.cuda.memory_allocated(), time.perf_counter()
    torch.cuda.reset_peak_memory_stats()
    do = make()
    for _ in range(3):
        do()
    torch.cuda.synchronize()
    return do, {
        "memory": (torch.cuda.max_memory_allocated() - before) / 1e9,
        "first": time.perf_counter() - started,
    }


def in_turn(work: dict[Any, Work], seconds: float = 0.5) -> dict[Any, float]:
    """Median seconds of each piece of work. They take turns."""
    took: dict[Any, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, do in work.items():
            took[name].append(do(seconds))
    return {name: statistics.median(values) for name, values in took.items()}


def averaged(do: Callable[[], object], seconds: float) -> float:
    """Seconds that `do` takes, on average over this many seconds."""
    do()
    torch.cuda.synchronize()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(4):
            do()
        torch.cuda.synchronize()
        count += 4
    return (time.perf_counter() - started) / count
