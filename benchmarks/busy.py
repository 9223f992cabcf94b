"""Training and inference of EfficientNet-B0 on a CPU that other processes use too, or of which one core is ours.

Each piece of work has a process of its own, since threads are set up once: `python busy.py NAME` measures at each line that it reads.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tables import Rows
from workers import ask, serve, started

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
ROUNDS = 5
NOTE = (
    "Images/s of B0: a training step at 96 pixels, batch 16, and inference in fp32 at 224 pixels, batch 8; ours and torchvision's in turn, "
    f"in {ROUNDS} rounds of idle, then busy (on the Xeon without AMX, three rounds idle, then three busy). "
    "Busy: beside one process per core that counts for ever. One core: what a container with a quota of one core gives, to which "
    "torchvision's loop doesn't adapt. The shares are of one's own speed on the idle machine."
)
SETTLE, SECONDS = 1, 2
"""Seconds of work before a measurement, in which training notices that the machine has become busy, and during it."""
COUNT_FOR_EVER = [sys.executable, "-c", "while True: pass"]
ONE_CORE = {"LOKY_MAX_CPU_COUNT": "1"}
"""joblib, which counts the cores, takes this for a quota."""


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row per piece of work."""
    import torch  # late: workers import Plumage first, which sets OpenMP up
    from steps import precisions

    device = torch.device("cpu")
    return [*(compared("training", precision) for precision in precisions(device)), compared("inference")]


def compared(work: str, *precision: str) -> dict[str, object]:
    """Ours and torchvision's rates, idle and busy, and ours on one core."""
    workers = {
        "ours": started(__file__, f"our_{work}", *precision),
        "torchvision": started(__file__, f"their_{work}", *precision),
        "one core": started(__file__, f"our_{work}", *precision, **ONE_CORE),
    }
    try:
        both = {name: workers[name] for name in ("ours", "torchvision")}
        rounds = [(rates(workers), beside_busy_processes(lambda: rates(both))) for _ in range(ROUNDS)]
    finally:
        for worker in workers.values():
            worker.kill()
    idle, busy = (medians(kind) for kind in zip(*rounds, strict=True))
    return {
        "work": " in ".join((work, *precision)),
        **{f"{name}, idle": idle[name] for name in ("ours", "torchvision")},
        **{f"{name}, busy": busy[name] for name in ("ours", "torchvision")},
        **{f"{name}, share": busy[name] / idle[name] for name in ("ours", "torchvision")},
        "ours, one core": idle["one core"],
        "share of one core": idle["one core"] / idle["ours"],
    }


def rates(workers: dict[str, subprocess.Popen[str]]) -> dict[str, float]:
    """Rates of processes, one after another."""
    return {name: float(ask(worker)) for name, worker in workers.items()}


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def beside_busy_processes(do: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Do it beside one process per core that counts for ever."""
    busy = [subprocess.Popen(COUNT_FOR_EVER) for _ in range(os.cpu_count() or 1)]
    try:
        return do()
    finally:
        for process in busy:
            process.kill()
            process.wait()


def our_training(precision: str) -> tuple[Callable[[], object], int]:
    """Plumage's step, with the threads that its stages take, and its batch size."""
    from plumage.accelerate import kernels
    from plumage.accelerate.layers import accelerate
    from plumage.models import create_model
    from plumage.training.contention import SharedCores
    from plumage.training.hardware import choose_device

    choose_device("cpu")
    kernels.keep_memory()
    network_step, cores = step(accelerate(create_model("efficientnet_b0", 1000)), precision), SharedCores()
    return lambda: (cores.adjust(), network_step()), 16


def their_training(precision: str) -> tuple[Callable[[], object], int]:
    """torchvision's network in the same step."""
    from torchvision.models import efficientnet_b0

    return step(efficientnet_b0(), precision), 16


def our_inference() -> tuple[Callable[[], object], int]:
    """Plumage's inference and its batch size."""
    import torch

    from plumage.accelerate.inference import compile_for_inference
    from plumage.models import create_model

    network = compile_for_inference(create_model("efficientnet_b0", 1000).eval())
    inputs = torch.randn(8, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    return lambda: network(inputs), 8


def their_inference() -> tuple[Callable[[], object], int]:
    """torchvision's network without gradients."""
    import torch
    from torchvision.models import efficientnet_b0

    network = efficientnet_b0().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    inputs = torch.randn(8, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: network(inputs)), 8


def step(network: object, precision: str) -> Callable[[], object]:
    """A training step with AdamW."""
    import torch
    import torch.nn.functional as F

    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[attr-defined]
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    inputs = torch.randn(16, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (16,))

    def do() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()

    return do


def rate(do: Callable[[], object], batch: int) -> float:
    """Images/s of SECONDS, after SETTLE."""
    for seconds in (SETTLE, SECONDS):
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            do()
            done += batch
    return done / (time.perf_counter() - start)


if __name__ == "__main__":
    do, batch = globals()[sys.argv[1]](*sys.argv[2:])
    serve(lambda: rate(do, batch), first=do)
