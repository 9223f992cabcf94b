"""An epoch of training from scratch on a CPU, from photos on disk to weights, against the article's code."""

from pathlib import Path

import torch
import torch.nn.functional as F
from common import Rows, dataset_of, in_turn, plain_memory
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.models import efficientnet_b0

from plumage.config import Train
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.recipes import train_model

NOTE = (
    "EfficientNet-B0, 224 pixels, batch 16, 256 drawn photos for training and 16 for validation. Includes making "
    "the model. Baseline: the article's training with ImageFolder, Pillow, ToTensor, "
    "fp32, NCHW memory, torchvision's network, Adam, no augmentation and no weight averaging."
)
BATCH = 16
DRAWN, TRAIN, VAL = 1_000, 256, 16


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row."""
    device = torch.device("cpu")
    root, dataset = dataset_of(DRAWN, folder)
    rows = {"train": list(range(TRAIN)), "val": list(range(TRAIN, TRAIN + VAL))}
    images = ImageFolder(str(root), transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()]))

    def ours() -> None:
        model = create_model("efficientnet_b0", len(dataset.classes))
        once = Train(epochs=1, batch_size=BATCH).resolved()
        data = TrainingData(dataset, rows, Preprocessing(size=224, crop_fraction=1.0))
        train_model(model, data, TrainingContext(once, device))

    def theirs() -> None:
        plain_memory()
        model = efficientnet_b0(num_classes=len(images.classes)).to(device)
        optimizer = torch.optim.Adam(model.parameters())
        for inputs, labels in DataLoader(Subset(images, rows["train"]), BATCH, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model.train()(inputs.to(device)), labels.to(device)).backward()
            optimizer.step()
        with torch.no_grad():
            for inputs, _ in DataLoader(Subset(images, rows["val"]), BATCH):
                model.eval()(inputs.to(device))

    seconds = in_turn({"the article's": theirs, "ours": ours})
    return [
        {
            **{f"{name}, s": took for name, took in seconds.items()},
            "ratio": seconds["the article's"] / seconds["ours"],
        }
    ]
