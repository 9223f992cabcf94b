"""What a training says that doesn't fit in the GPU's memory, and whether the batch size that it names fits."""

import re
from collections.abc import Callable

import torch
from tables import Rows

from on_gpu.common import CLASSES, CUDA, SIDE, Run, on_gpu, random_photos
from plumage.accelerate.layers import accelerate
from plumage.config import Train
from plumage.errors import PlumageError
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.gradients import GradientAccumulator
from plumage.training.recipes import train_model

GB = 8
NOTE = f"Of the GPU's memory, all but {GB} GB is taken. EfficientNet-B0 from scratch at {SIDE} pixels, with the error message's batch size."


def measure(run: Run) -> list[Rows]:
    """A batch that is too large is noticed before training starts, and in a step."""
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(0, free - GB * 10**9), dtype=torch.uint8, device=CUDA)
    before = said(lambda: train(run, 1024))
    rows: Rows = [{"batch": 1024, "noticed": "before training", "message": before}]
    named = int((re.search(r"takes (\d+)", before) or ["", "0"])[1])
    rows += [{"batch": named, "noticed": "", "message": said(lambda: train(run, named)) or "trained"}] if named else []
    rows += [{"batch": 1024, "noticed": "in a step", "message": said(lambda: step(1024))}]
    del taken
    return [rows]


def said(do: Callable[[], object]) -> str:
    """The error message of `do`, or nothing."""
    try:
        do()
    except PlumageError as error:
        return str(error)
    finally:
        torch.cuda.empty_cache()
    return ""


def train(run: Run, batch: int) -> None:
    dataset = run.dataset()
    rows = {"train": list(range(1, len(dataset), 2))[: 2 * batch], "val": list(range(0, len(dataset), 2))[:64]}
    data = TrainingData(dataset, rows, Preprocessing(size=SIDE, crop_fraction=1.0))
    settings = Train(epochs=1, batch_size=batch).resolved()
    train_model(create_model("efficientnet_b0", len(dataset.classes)), data, TrainingContext(settings, CUDA))


def step(batch: int) -> None:
    network = accelerate(create_model("efficientnet_b0", CLASSES)).train()
    on_gpu(network)
    gradients = GradientAccumulator(network, TrainingContext(Train(batch_size=batch).resolved(), CUDA))
    gradients.accumulate(iter([(random_photos(batch), torch.zeros(batch, dtype=torch.int64, device=CUDA))]), 1, batch)
