"""What a training will be, before it is done: its schedule, its size, and estimates of its memory and time."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from plumage.accelerate import accelerate
from plumage.accelerate.inference import compile_for_inference
from plumage.config import Model, ResolvedTrain
from plumage.data.dataset.store import Dataset
from plumage.models.classifier import ImageClassifier
from plumage.models.networks import build_network
from plumage.training.distributed import ProcessGroup
from plumage.training.hardware import autocast, choose_device, hardware_tags, micro_batch_size
from plumage.training.memory import fit_batch, free_bytes, step_bytes
from plumage.training.optim import build_optimizer, warmup_cosine
from plumage.training.recipes import EVAL_BATCH, freeze_stages, new_model, view_size
from plumage.training.trainer import set_training

EIGHTHS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Plan:
    """Estimates are for this machine, from a few steps on empty photos."""

    recipe: dict[str, object]
    """Every key of `train` after the recipe's defaults."""
    choices: dict[str, str]
    """What each `auto` stands for here."""
    photos: dict[str, int]
    classes: int
    size: int
    """The side of a photo as validation sees it, in pixels."""
    parameters: int
    learning: int
    """Of the parameters, those that change."""
    macs: int
    """Multiplications with addition for a photo of that size."""
    steps: int
    learning_rates: list[float]
    """At each step."""
    memory: int
    free: int
    """Bytes, of the device."""
    seconds_an_epoch: float
    seconds: float


def make_plan(wanted: Model, train: ResolvedTrain, dataset: Dataset, rows: dict[str, list[int]], root: Path) -> Plan:
    """The plan of training `wanted` on the rows `train` of `dataset`, in seconds.

    Raises:
        TrainingError: the device is not there, or the batch does not fit.
    """
    device = choose_device(train.device)
    model, preprocessing = new_model(wanted, dataset, train.seed, root)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if train.accelerate:
        accelerate(model)
    photos = {part: len(rows[part]) for part in ("train", "val")}
    side = preprocessing.size
    judging = 1 / _speed(model, EVAL_BATCH, side, train, device, learns=False)
    features = judging * (photos["train"] * (2 if train.flip else 1) + photos["val"])
    known, chosen = dict[str, object](train.model_dump()), hardware_tags(train, device, ProcessGroup())
    size = dict(classes=len(dataset.classes), size=side, parameters=_count(model), macs=count_macs(model, side))
    if train.recipe == "probe":
        learning = sum(parameter.numel() for parameter in model.classifier.parameters())
        held = sum(len(rows["train"]) * 4 * model.num_features * copies for copies in (2, 2 if train.flip else 0))
        return Plan(known, chosen, photos, **size, learning=learning, steps=0, learning_rates=[], memory=held,
                    free=free_bytes(device), seconds_an_epoch=0.0, seconds=features)  # fmt: skip
    freeze_stages(model, train.frozen_stages)
    seen = view_size(preprocessing, train.size_ratio)
    batch, accumulation = fit_batch(model, seen, train, ProcessGroup())
    known |= {"batch_size": batch, "grad_accumulation": accumulation}
    fixed, each = step_bytes(model, seen, train.precision)
    at_once = min(batch, micro_batch_size(device, train))
    steps = -(-photos["train"] // (batch * accumulation))
    epoch = photos["train"] / _speed(model, min(at_once, 16), seen, train, device, learns=True)
    epoch += photos["val"] * judging
    return Plan(
        known, chosen, photos, **size, learning=_count(model, learning=True), steps=steps,
        learning_rates=_rates(model, train, steps), memory=fixed + each * at_once, free=free_bytes(device),
        seconds_an_epoch=epoch, seconds=train.all_epochs * epoch + (2 * features if train.recipe == "finetune" else 0),
    )  # fmt: skip


def count_macs(model: ImageClassifier, side: int) -> int:
    """Multiplications with addition of one photo of `side` x `side` pixels."""
    with torch.device("meta"):
        blank = build_network(model.config, model.num_classes).eval()
        with FlopCounterMode(display=False) as counter:
            blank(torch.empty(1, 3, side, side))
    return int(counter.get_total_flops()) // 2


def picture(values: list[float], width: int = 64, height: int = 4) -> list[str]:
    """`values`, from 0 to their highest, as `height` lines of bars."""
    columns = [values[place * len(values) // width] for place in range(width)] if len(values) > width else values
    top = max(values) or 1.0
    levels = [round(value / top * 8 * height) for value in columns]
    return ["".join(EIGHTHS[min(8, max(0, level - 8 * row))] for level in levels) for row in reversed(range(height))]


def _rates(model: ImageClassifier, train: ResolvedTrain, steps: int) -> list[float]:
    """The learning rate at each step."""
    optimizer = build_optimizer(model, model.classifier, train)
    total = train.epochs * steps
    factor = warmup_cosine(optimizer, round(train.warmup_epochs * steps), total).lr_lambdas[0]
    return [train.lr * factor(step % total) for step in range(train.all_epochs * steps)]


def _count(model: nn.Module, learning: bool = False) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad or not learning)


def _speed(model: nn.Module, batch: int, side: int, train: ResolvedTrain, device: torch.device, learns: bool) -> float:
    """Photos a second, of the second of two steps."""
    photos = torch.zeros(batch, 3, side, side, device=device).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    set_training(model, train.freeze_norm)
    forward = compile_for_inference(model.eval(), train.precision, accelerate=train.accelerate) if not learns else None
    for _ in range(2):
        started = time.perf_counter()
        if forward:
            logits = forward(photos)
        else:
            with autocast(device, train.precision):
                logits = model(photos).float()
        loss = F.cross_entropy(logits, labels)
        if learns:
            loss.backward()
        loss.item()  # waits for the device
        passed = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    return batch / passed
