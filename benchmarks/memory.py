"""Memory of training on as many photos as BIRDS 400 has, after each epoch."""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from common import Rows, dataset_of

from plumage.common.files import remove
from plumage.config import Train
from plumage.data.dataset.store import Dataset, write_dataset
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.recipes import train_model

NOTE = (
    "The recipe `scratch` on 58,000 photos of 224 pixels (1,000 photos, repeated 58 times), in its own process: peak memory (RSS, "
    "mapped files included) after each epoch. Lite0 at 32 pixels sees many of them, in batches of 128. B0 at 224 pixels, whose steps "
    "need the most memory, sees few, in batches of 16."
)
TIMES = 58


def measure(folder: Path, photos: Path | None) -> Rows:
    """One row per network."""
    _, few = dataset_of(1_000, folder)
    many = folder / "many"
    remove(many)
    write_dataset(many, (again(batch, number) for number in range(TIMES) for batch in few.batches_without(set())))
    rows: Rows = []
    for name, size, batch, seen in (
        ("efficientnet_lite0", 32, 128, 5_000),
        ("efficientnet_b0", 224, 16, 160),
    ):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            peaks = pool.submit(train, many, name, size, batch, seen).result()
        rows.append(
            {
                "network": name,
                "pixels": size,
                "photos per epoch": seen,
                **{f"epoch {n}, MB": peak for n, peak in enumerate(peaks, 1)},
            }
        )
    return rows


def again(batch: pa.RecordBatch, number: int) -> pa.RecordBatch:
    """The same photos under new keys."""
    place = batch.schema.get_field_index("key")
    names = pa.array([f"{number}/{key}" for key in batch.column("key").to_pylist()])
    return batch.set_column(place, "key", names)


def train(folder: Path, name: str, size: int, batch: int, seen: int) -> list[float]:
    store, peaks = Dataset(folder), list[float]()
    model = create_model(name, len(store.classes))
    rows = {"train": np.random.default_rng(0).choice(len(store), seen, replace=False).tolist(), "val": list(range(64))}

    def on_epoch(*_: object) -> None:
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)

    preprocessing = Preprocessing(size=size, crop_fraction=1.0)
    settings = Train(epochs=2, batch_size=batch).resolved()
    context = TrainingContext(settings, torch.device("cpu"), on_epoch=on_epoch)
    train_model(model, TrainingData(store, rows, preprocessing), context)
    return peaks
