"""An epoch of training from scratch on a CPU, from photos on disk to weights, against the article's code.

Each side has a process of its own: `python epochs.py SIDE FOLDER` trains for an epoch at each line that it reads, and before the first
on a few photos.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tables import Rows
from workers import ask, serve, started

NOTE = (
    "EfficientNet-B0, 224 pixels, batch 16, 256 drawn photos for training and 16 for validation. Includes making "
    "the model. Each side has a process of its own; on the first two machines they shared one. Baseline: the article's training with "
    "ImageFolder, Pillow, ToTensor, fp32, NCHW memory, torchvision's network, Adam, no augmentation and no weight averaging."
)
BATCH = 16
DRAWN, TRAIN, VAL = 1_000, 256, 16
VAL_ROWS = list(range(TRAIN, TRAIN + VAL))
Train = Callable[[int], object]
"""Training on as many photos, from random weights."""


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row."""
    from common import dataset_of, in_turn

    root, _ = dataset_of(DRAWN, folder)
    workers = {
        "the article's": started(__file__, "theirs", str(root)),
        "ours": started(__file__, "ours", str(folder / "dataset")),
    }
    try:
        seconds = in_turn({name: partial(ask, worker) for name, worker in workers.items()}, warm=True)
    finally:
        for worker in workers.values():
            worker.kill()
    return [
        {
            **{f"{name}, s": took for name, took in seconds.items()},
            "ratio": seconds["the article's"] / seconds["ours"],
        }
    ]


def ours(folder: Path) -> Train:
    """Plumage's training on a data set."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
    from plumage.config import Train as Settings
    from plumage.data.dataset.store import Dataset
    from plumage.models import create_model
    from plumage.models.preprocessing import Preprocessing
    from plumage.training.context import TrainingContext, TrainingData
    from plumage.training.hardware import choose_device
    from plumage.training.recipes import train_model

    dataset, device = Dataset(folder), choose_device("cpu")

    def train(photos: int) -> None:
        model = create_model("efficientnet_b0", len(dataset.classes))
        rows = {"train": list(range(photos)), "val": VAL_ROWS}
        data = TrainingData(dataset, rows, Preprocessing(size=224, crop_fraction=1.0))
        once = Settings(epochs=1, batch_size=BATCH).resolved()
        train_model(model, data, TrainingContext(once, device))

    return train


def theirs(folder: Path) -> Train:
    """The article's training on class folders."""
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import ImageFolder
    from torchvision.models import efficientnet_b0

    images = ImageFolder(str(folder), transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()]))

    def train(photos: int) -> None:
        model = efficientnet_b0(num_classes=len(images.classes))
        optimizer = torch.optim.Adam(model.parameters())
        for inputs, labels in DataLoader(Subset(images, range(photos)), BATCH, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model.train()(inputs), labels).backward()
            optimizer.step()
        with torch.no_grad():
            for inputs, _ in DataLoader(Subset(images, VAL_ROWS), BATCH):
                model.eval()(inputs)

    return train


if __name__ == "__main__":
    train = {"ours": ours, "theirs": theirs}[sys.argv[1]](Path(sys.argv[2]))
    serve(partial(train, TRAIN), first=partial(train, 2 * BATCH))
