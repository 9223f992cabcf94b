"""Helpers for tests: photos and data sets made on the fly, and requirements of the machine."""

import io
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from scipy.special import softmax

from plumage.accelerate import kernels
from plumage.data.dataset.ingest import check_photos
from plumage.data.dataset.store import Dataset, read_batch, write_dataset
from plumage.data.sources.photo import Chunk, Photo, Source

needs_kernels = pytest.mark.skipif(
    kernels.c_compiler() is None, reason="no C compiler, or not Linux: torch's operations are used"
)
"""Skips a test only without a compiler: where there is one, C that doesn't compile fails it."""


def command_lines() -> dict[int, list[str]]:
    """The words of the commands of this process's children, and of theirs, by process id."""
    found: dict[int, list[str]] = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found[child.pid] = child.cmdline()
    return found


def make_photo(color: tuple[int, int, int], seed: int, size: tuple[int, int] = (40, 32), format: str = "JPEG") -> bytes:
    """A photo file of one colour with noise."""
    noise = np.random.default_rng(seed).normal(0, 12, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)).save(buffer, format)
    return buffer.getvalue()


class MemorySource:
    """A source of the photos given."""

    def __init__(self, photos: list[Photo]) -> None:
        self.about: dict[str, Any] = {}
        self._photos = photos

    def __len__(self) -> int:
        return len(self._photos)

    def chunks(self) -> Iterator[Chunk]:
        return (partial(list, self._photos[start : start + 64]) for start in range(0, len(self), 64))


def make_dataset(folder: Path, photos: list[Photo]) -> Dataset:
    """Write a data set of these photos, of any number of classes; unusable ones are left out."""
    checked = (check_photos(chunk, min_size=1) for chunk in MemorySource(photos).chunks())
    write_dataset(folder, (read_batch(rows) for rows, *_ in checked))
    return Dataset(folder)


def read_all(source: Source) -> list[Photo]:
    """Every photo of a source."""
    return [photo for chunk in source.chunks() for photo in chunk()]


def calibrated_logits(num_samples: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Perfectly calibrated logits, N x C: each of the N labels is drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(num_samples, num_classes))
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (rng.random((num_samples, 1)) > cumulated).sum(axis=1).clip(0, num_classes - 1)
