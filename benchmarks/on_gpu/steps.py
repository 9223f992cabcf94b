"""Training steps of EfficientNet-B0, ours and the peers'."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from tables import Rows
from torch import Tensor

from on_gpu.common import (
    CLASSES,
    CUDA,
    Run,
    Work,
    answer,
    averaged,
    be_free,
    in_turn,
    on_gpu,
    peer,
    random_photos,
    warmed_up,
)
from plumage.accelerate.layers import accelerate
from plumage.config import Train
from plumage.models import create_model
from plumage.training.context import TrainingContext
from plumage.training.gradients import GradientAccumulator
from plumage.training.optim import WeightUpdate, build_optimizer
from plumage.training.seeding import seed_everything

BATCHES = (16, 64, 256)
TORCHVISION, OURS, NOT_EXACT = "torchvision", "ours", "ours, not deterministic"
COMPILED = ("torchvision, compiled", "timm, compiled")
NOTE = (
    "Forward, backward and AdamW of EfficientNet-B0 at 224 pixels, bf16, channels_last, with random photos. Ours is what training does "
    "by default, and is not compiled; torchvision and timm may choose kernels that are not deterministic. Memory is the peak of a step "
    "and its weights. The first three steps include compilation and, at batch 256, cuDNN's search for the fastest kernels; with smaller "
    "batches, launching torchvision's kernels takes longer than running them."
)


def measure(run: Run) -> list[Rows]:
    """Steps, and then the kernels that take the most time."""
    steps, facts = dict[tuple[int, str], Callable[[], object]](), dict[tuple[int, str], dict[str, float]]()
    for batch in BATCHES:
        for name in (TORCHVISION, OURS, *([NOT_EXACT] if batch != BATCHES[1] else [])):
            steps[batch, name], facts[batch, name] = warmed_up(partial(training_step, name, batch))
    work: dict[tuple[int, str], Work] = {key: partial(averaged, step) for key, step in steps.items()}
    for name in COMPILED:
        if name in run.compiling and (said := run.compiling[name].compiled()):
            facts[BATCHES[-1], name], work[BATCHES[-1], name] = said, run.compiling[name].work(BATCHES[-1])
    seconds = in_turn(work)
    rows: Rows = [
        {
            "batch": batch,
            "network": name,
            "images/s": round(batch / seconds[batch, name]),
            "times torchvision's": seconds[batch, TORCHVISION] / seconds[batch, name],
            "memory, GB": facts[batch, name]["memory"],
            "first three steps, s": facts[batch, name]["first"],
        }
        for batch, name in sorted(work, key=lambda key: key[0])
    ]
    return [rows, kernel_rows({name: steps[BATCHES[-1], name] for name in (OURS, TORCHVISION)})]


def compile_and_answer(name: str) -> None:
    """Compile a step of the largest batch size with torch.compile, then answer requests to time it."""
    step, facts = warmed_up(partial(training_step, name, BATCHES[-1]))
    answer({BATCHES[-1]: step}, **facts)


def training_step(name: str, batch: int) -> Callable[[], object]:
    """A step of the network `name` on random photos."""
    torch.manual_seed(0)
    inputs, labels = random_photos(batch), torch.randint(0, CLASSES, (batch,), device=CUDA)
    return our_step(name, inputs, labels) if name.startswith("ours") else their_step(name, inputs, labels)


def our_step(name: str, inputs: Tensor, labels: Tensor) -> Callable[[], object]:
    batch, exact = len(inputs), name != NOT_EXACT
    train = Train(batch_size=batch, deterministic=exact).resolved()
    network = create_model("efficientnet_b0", CLASSES)
    accelerate(on_gpu(network)).train()
    gradients = GradientAccumulator(network, TrainingContext(train, CUDA))
    update = WeightUpdate(network, build_optimizer(network, network.classifier, train), train.max_grad_norm, CUDA)
    seed_everything(0, exact)

    def step() -> None:
        torch.manual_seed(0)
        gradients.accumulate(iter([(inputs, labels)]), 1, batch)
        norm = gradients.norm()
        update(norm, norm.isfinite(), gradients.are_recorded)

    step()
    if not gradients.are_recorded:
        print(f"{name}: NOT RECORDED as a CUDA graph", flush=True)
    return step


def their_step(name: str, inputs: Tensor, labels: Tensor) -> Callable[[], object]:
    network = on_gpu(peer(name)).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    forward = torch.compile(network, dynamic=False) if "compiled" in name else network

    def step() -> None:
        be_free(len(inputs))
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(CUDA.type, torch.bfloat16):
            loss = F.cross_entropy(forward(inputs).float(), labels)
        loss.backward()
        optimizer.step()

    return step


def kernel_rows(steps: dict[str, Callable[[], object]]) -> Rows:
    """The kernels of each step that take the most time."""
    rows: Rows = []
    for name, step in steps.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            step()
            torch.cuda.synchronize()
        events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
        total = sum(event.self_device_time_total for event in events)
        rows += [
            {"network": name, "kernel": event.key[:70], "calls": event.count,
             "ms": event.self_device_time_total / 1e3, "share": event.self_device_time_total / total}
            for event in events[:14]
        ]  # fmt: skip
    return rows
