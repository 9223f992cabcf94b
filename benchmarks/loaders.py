"""The loader alone, on one core, against ImageFolder and DataLoader with the same augmentation."""

import os
from pathlib import Path

import numpy as np
import torch
from common import Rows, dataset_of, in_turn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from plumage.accelerate import kernels
from plumage.config import Augmentation
from plumage.data.loading.loader import batched, load_batches
from plumage.data.loading.model_input import to_model_input
from plumage.data.loading.transforms import augmentation_draws, train_view
from plumage.models.preprocessing import Preprocessing

NOTE = (
    "1,000 drawn photos of 224 pixels to normalised batches of 32 random crops (at least half of the area, half of them mirrored), all on "
    "one core. Baseline: ImageFolder, RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize, DataLoader."
)
PHOTOS, BATCH = 1_000, 32


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row per input size."""
    root, dataset = dataset_of(PHOTOS, folder)
    kernels.keep_memory()  # as training does; the baseline benefits too
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_cores)})
    rows: Rows = []
    for size in (224, 96):
        preprocessing = Preprocessing(size=size, crop_fraction=1.0, interpolation="bilinear")
        steps = [
            transforms.RandomResizedCrop(size, (0.5, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
        ]
        normalise = transforms.Normalize(preprocessing.mean, preprocessing.std)
        images = ImageFolder(str(root), transforms.Compose([*steps, normalise]))
        count = min(len(dataset), len(images))

        def ours(preprocessing: Preprocessing = preprocessing, count: int = count) -> None:
            order = batched(np.random.default_rng(0).permutation(count).tolist(), BATCH)

            def transform(photo: np.ndarray, row: int, out: np.ndarray) -> None:
                train_view(photo, preprocessing, augmentation_draws(0, 1, row), Augmentation(0.5, True), out)

            for batch in load_batches(dataset, order, transform, preprocessing.size, threads=1):
                to_model_input(batch, preprocessing, "cpu")

        def theirs(images: ImageFolder = images, count: int = count) -> None:
            for _ in DataLoader(Subset(images, range(count)), BATCH, shuffle=True):
                pass

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        seconds = in_turn({"ImageFolder": theirs, "ours": ours})
        torch.set_num_threads(threads)
        rows.append(
            {
                "size": size,
                **{f"{name}, images/s": count / took for name, took in seconds.items()},
                "ratio": seconds["ImageFolder"] / seconds["ours"],
            }
        )
    os.sched_setaffinity(0, all_cores)
    return rows
