"""Accuracy of training from scratch, against the article's training for the same time."""

import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import ROOT, Rows, plain_memory
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.models import efficientnet_b0
from torchvision.transforms.functional import to_tensor

from plumage.config import Model, Train
from plumage.data.dataset.decode import decode
from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset as Store
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.sample import SampleSource
from plumage.data.split.stratified import Photos, stratified_split
from plumage.inference.predict import predict
from plumage.training.build import new_model
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.recipes import train_model

NOTE = (
    "EfficientNet-B0 from random weights; accuracy on a tenth of the photos, which neither side trains on. Ours: the recipe `scratch` for "
    "the given epochs; on real photos, which it sees more often, with batches of 32, crops of a third of the area or more, and "
    "stochastic depth 0.1. Baseline: the article's training for the same time at the same size, with Pillow, ToTensor, fp32, NCHW "
    "memory, torchvision's network, Adam, batch 16, no schedule, no augmentation and no weight averaging. One run each."
)
BATCH = 16


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row for the sample with 10 species, one for the real photos in the archive `photos`."""
    ingest(SampleSource(10, 60, 64, 0), folder / "accuracy", min_size=1, max_refused=1)
    rows = [compare("sample, 10 species, 60 photos each", Store(folder / "accuracy"), Model(), Train(epochs=8))]
    if photos:
        ingest(ArchiveSource(photos, folder / "unpacked"), folder / "accuracy", min_size=1, max_refused=1)
        train = Train(epochs=24, batch_size=32, min_scale=0.35)
        rows.append(compare(photos.stem, Store(folder / "accuracy"), Model(image_size=128, drop_path=0.1), train))
    return rows


class Tensors(Dataset[tuple[torch.Tensor, int]]):
    """The photos of `rows`, loaded as the article does."""

    def __init__(self, store: Store, rows: list[int], side: int) -> None:
        self.store, self.rows, self.side, self.targets = store, rows, side, store.targets()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        row = self.rows[place]
        photo = decode(self.store.photo(row)).resize((self.side, self.side), Image.Resampling.BILINEAR)
        return to_tensor(photo), int(self.targets[row])


def compare(name: str, store: Store, wanted: Model, settings: Train) -> dict[str, object]:
    ids = [row.tobytes() for row in store.bytes_column("sha256")]
    splits = np.array(stratified_split(Photos(store.keys, store.labels, ids, []), 0.05, 0.1, 0))
    rows = {split: np.flatnonzero(splits == split).tolist() for split in ("train", "val", "test")}
    truth = store.targets()[rows["test"]]
    train = settings.resolved()
    model, preprocessing = new_model(wanted, store, train.seed, ROOT)
    started = time.perf_counter()
    train_model(model, TrainingData(store, rows, preprocessing), TrainingContext(train, torch.device("cpu")))
    seconds = time.perf_counter() - started
    ours = predict(model, store, rows["test"], preprocessing, "cpu").logits

    plain_memory()
    torch.manual_seed(0)
    theirs, epochs = efficientnet_b0(num_classes=len(store.classes)), 0.0
    optimizer = torch.optim.Adam(theirs.parameters())
    loader = DataLoader(Tensors(store, rows["train"], preprocessing.size), BATCH, shuffle=True, drop_last=True)
    started = time.perf_counter()
    theirs.train()
    while time.perf_counter() - started < seconds:
        for inputs, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(theirs(inputs), labels).backward()
            optimizer.step()
            epochs += 1 / len(loader)
            if time.perf_counter() - started >= seconds:
                break
    theirs.eval()
    with torch.inference_mode():
        test = DataLoader(Tensors(store, rows["test"], preprocessing.size), BATCH)
        predictions = torch.cat([theirs(inputs).argmax(1) for inputs, _ in test]).numpy()
    return {
        "photos": name,
        "pixels": preprocessing.size,
        "seconds": seconds,
        "ours, epochs": train.epochs,
        "ours, accuracy": float((ours.argmax(1) == truth).mean()),
        "the article's, epochs": epochs,
        "the article's, accuracy": float((predictions == truth).mean()),
    }
