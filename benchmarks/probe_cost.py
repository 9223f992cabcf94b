"""One iteration of the probe over cached features, against one epoch of fine-tuning."""

from pathlib import Path

import numpy as np
import torch
from common import Rows, in_turn
from steps import step

from plumage.accelerate.layers import accelerate
from plumage.models import create_model
from plumage.training import probe

NOTE = (
    "Lite0 at 224 pixels. One iteration of the probe covers the cached features of 3,000 photos in 100 classes. One epoch of fine-tuning "
    "is extrapolated from a step on 16 blank photos with 1,000 classes, the whole network training: its time times 3,000 / 16."
)
PHOTOS, BATCH, CLASSES = 3_000, 16, 100


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row."""
    torch.manual_seed(0)
    features, labels = torch.randn(PHOTOS, 1280), torch.arange(PHOTOS) % CLASSES
    one_step = step(accelerate(create_model("efficientnet_lite0", 1000)), BATCH, torch.device("cpu"), "auto")
    start = np.zeros(1281 * CLASSES)
    objective = probe.make_objective(features, labels, CLASSES, 0.1)
    seconds = in_turn({"iteration": lambda: objective(start), "step": one_step}, rounds=9)
    epoch = seconds["step"] * PHOTOS / BATCH
    return [{"probe, s": seconds["iteration"], "fine-tuning, s": epoch, "ratio": epoch / seconds["iteration"]}]
