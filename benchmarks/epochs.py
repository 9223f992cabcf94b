"""An epoch of training from scratch, from photos on disk to weights, against the article's code."""

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
    "EfficientNet-B0, 224 pixels, batch 16, 256 drawn photos for training and 16 for validation (8,192 and 512 on CUDA). Includes making "
    "the model; compilation falls in the uncounted first round. Baseline: the article's training with ImageFolder, Pillow, ToTensor, "
    "fp32, NCHW memory, torchvision's network, Adam, no augmentation and no weight averaging."
)
BATCH = 16
PHOTOS = {"cpu": (1_000, 256, 16), "cuda": (10_000, 8_192, 512)}
"""Per device: photos drawn, of these for training, for validation. An epoch takes seconds."""


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    drawn, train, val = PHOTOS[device.type]
    root, dataset = dataset_of(drawn, folder)
    rows = {"train": list(range(train)), "val": list(range(train, train + val))}
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
