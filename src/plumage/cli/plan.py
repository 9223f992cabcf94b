"""The plan of a training, made in seconds: its schedule, its size, and estimates of its memory and time."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from plumage.accelerate.inference import compile_for_inference
from plumage.config import Model, ResolvedTrain
from plumage.data.dataset.store import Dataset
from plumage.models.classifier import ImageClassifier
from plumage.models.networks import build_network
from plumage.training.batches import EVAL_BATCH
from plumage.training.build import freeze_stages, new_model, train_image_size, train_mode
from plumage.training.distributed import SINGLE_PROCESS
from plumage.training.hardware import autocast, choose_device, hardware_tags, micro_batch_size
from plumage.training.memory import fit_batch_size, free_bytes, step_bytes
from plumage.training.optim import build_optimizer, warmup_cosine

BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Plan:
    """What a training will do. Memory and times are estimates for this machine, from a few steps on blank photos."""

    settings: dict[str, object]
    """Every key of `train`, with the recipe's defaults filled in."""
    hardware: dict[str, str]
    """What each `auto` means here."""
    photos: dict[str, int]
    """Number of photos per split."""
    num_classes: int
    image_size: int
    """Side of a photo in pixels, in validation."""
    parameters: int
    trainable_parameters: int
    macs: int
    """Multiply-adds per photo of that size."""
    memory: int
    """Bytes that training takes on the device."""
    free_memory: int
    """Bytes that are free on the device."""
    seconds: float
    seconds_per_epoch: float = 0.0
    """0 for a probe."""
    steps_per_epoch: int = 0
    """0 for a probe."""
    learning_rates: tuple[float, ...] = ()
    """One per step; empty for a probe."""


def make_plan(wanted: Model, train: ResolvedTrain, dataset: Dataset, rows: dict[str, list[int]], root: Path) -> Plan:
    """Plan the training of `wanted` on the rows `train` of `dataset`, by itself in one process.

    Raises:
        TrainingError: the device is not available, or the batch does not fit in memory.
    """
    device = choose_device(train.device)
    model, preprocessing = new_model(wanted, dataset, train.seed, root)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    photos = {split: len(rows[split]) for split in ("train", "val")}
    eval_seconds = 1 / _throughput(model, EVAL_BATCH, preprocessing.size, train, device, learns=False)
    views = 2 if train.flip else 1  # a probe also sees mirror images
    feature_bytes = photos["train"] * 4 * model.num_features
    plan = Plan(
        settings=train.model_dump(),
        hardware=hardware_tags(train, device, SINGLE_PROCESS),
        photos=photos,
        num_classes=len(dataset.classes),
        image_size=preprocessing.size,
        parameters=_count(model.parameters()),
        trainable_parameters=_count(model.classifier.parameters()),
        macs=count_macs(model, preprocessing.size),
        memory=2 * views * feature_bytes,  # before and after whitening
        free_memory=free_bytes(device),
        seconds=eval_seconds * (photos["train"] * views + photos["val"]),
    )
    if train.recipe == "probe":
        return plan
    return _with_training(plan, model, train, train_image_size(preprocessing, train.size_ratio), eval_seconds)


def _with_training(
    plan: Plan, model: ImageClassifier, train: ResolvedTrain, image_size: int, eval_seconds: float
) -> Plan:
    """`plan`, which is a probe's, for a recipe that trains the network on crops of `image_size` pixels."""
    device = next(model.parameters()).device
    freeze_stages(model, train.frozen_stages)
    batch_size, accumulation = fit_batch_size(model, image_size, train, SINGLE_PROCESS)
    fixed, per_photo = step_bytes(model, image_size, train.precision)
    micro_batch = min(batch_size, micro_batch_size(device, train))
    steps = -(-plan.photos["train"] // (batch_size * accumulation))
    throughput = _throughput(model, min(micro_batch, 16), image_size, train, device, learns=True)
    epoch = plan.photos["train"] / throughput + plan.photos["val"] * eval_seconds
    return replace(
        plan,
        settings={**plan.settings, "batch_size": batch_size, "grad_accumulation": accumulation},
        trainable_parameters=_count(value for value in model.parameters() if value.requires_grad),
        memory=fixed + per_photo * micro_batch,
        # Fine-tuning fits a probe before and after.
        seconds=train.all_epochs * epoch + (2 * plan.seconds if train.recipe == "finetune" else 0),
        seconds_per_epoch=epoch,
        steps_per_epoch=steps,
        learning_rates=_learning_rates(model, train, steps),
    )


def count_macs(model: ImageClassifier, image_size: int) -> int:
    """Multiply-adds of one photo of `image_size` x `image_size` pixels."""
    with torch.device("meta"):
        blank = build_network(model.config, model.num_classes).eval()
        with FlopCounterMode(display=False) as counter:
            blank(torch.empty(1, 3, image_size, image_size))
    return int(counter.get_total_flops()) // 2


def bar_chart(values: Sequence[float], width: int = 64, height: int = 4) -> list[str]:
    """`values`, from 0 to their maximum, as bars in `height` lines of at most `width` characters."""
    columns = [values[i * len(values) // width] for i in range(width)] if len(values) > width else values
    top = max(values) or 1.0
    levels = [round(value / top * 8 * height) for value in columns]
    return ["".join(BARS[min(8, max(0, level - 8 * row))] for level in levels) for row in reversed(range(height))]


def _learning_rates(model: ImageClassifier, train: ResolvedTrain, steps_per_epoch: int) -> tuple[float, ...]:
    """Learning rate of each step of all epochs."""
    optimizer = build_optimizer(model, model.classifier, train)
    total = train.epochs * steps_per_epoch
    factor = warmup_cosine(optimizer, round(train.warmup_epochs * steps_per_epoch), total).lr_lambdas[0]
    return tuple(train.lr * factor(step % total) for step in range(train.all_epochs * steps_per_epoch))


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _throughput(
    model: nn.Module, batch_size: int, image_size: int, train: ResolvedTrain, device: torch.device, learns: bool
) -> float:
    """Photos per second in the second of two steps: of training if `learns`, else of validation."""
    photos = torch.zeros(batch_size, 3, image_size, image_size, device=device).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch_size, dtype=torch.int64, device=device)
    train_mode(model, train.freeze_norm)
    predict = None if learns else compile_for_inference(model.eval(), train.precision, accelerate=train.accelerate)
    for _ in range(2):
        started = time.perf_counter()
        if predict:
            logits = predict(photos)
        else:
            with autocast(device, train.precision):
                logits = model(photos).float()
        loss = F.cross_entropy(logits, labels)
        if learns:
            loss.backward()
        loss.item()  # waits for the device
        seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    return batch_size / seconds
