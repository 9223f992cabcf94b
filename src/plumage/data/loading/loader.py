"""Batches of photos, decoded and transformed by threads ahead of the model (both release the GIL)."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from plumage.common.cores import cores
from plumage.data.dataset.decode import named, pixels
from plumage.data.dataset.store import Dataset
from plumage.data.loading.transforms import eval_view
from plumage.models.preprocessing import Preprocessing

T = TypeVar("T")
BATCHES_AHEAD = 4
CHUNK = 32
"""Photos that a thread loads at a time."""
BUFFER = 1 << 21  # bytes of a decoded photo up to which a buffer is reused
Loading = tuple[torch.Tensor, list[Future[None]]]
"""A batch, and the chunks of it that threads are filling."""
# transform(photo, row, out) crops and resizes a decoded photo, uint8 H x W x 3, into `out`, uint8 size x size x 3.
Transform = Callable[[np.ndarray, int, np.ndarray], object]


def central_view(preprocessing: Preprocessing, mirrored: bool = False) -> Transform:
    """Return the evaluation transform: the central crop, mirrored if asked."""

    def transform(photo: np.ndarray, row: int, out: np.ndarray) -> None:
        eval_view(photo, preprocessing, mirrored, out)

    return transform


def typical_side(dataset: Dataset) -> int:
    """The photos' median shorter side in pixels."""
    return int(np.median(np.minimum(dataset.column("width"), dataset.column("height"))))


def load_batches(
    dataset: Dataset, batches: Sequence[Sequence[int]], transform: Transform, size: int, threads: int | None = None,
    pinned: bool = False,
) -> Iterator[torch.Tensor]:  # fmt: skip
    """Yield the transformed photos of each list of rows, uint8 N x size x size x 3, in order.

    `threads` threads work ahead (None: one per core). `pinned` memory is copied to a GPU while that computes.

    Raises:
        PhotoError: a photo can't be decoded; the message names it.
    """

    def load(rows: Sequence[int], outs: np.ndarray) -> None:
        # One buffer for all photos stays in the CPU cache. It starts at an odd address, since libjpeg-turbo's stores to an
        # aligned one bypass the cache.
        buffer = np.empty(BUFFER + 1, np.uint8)[1:]
        for row, out in zip(rows, outs, strict=True):
            with named(dataset.keys[row]):
                transform(pixels(dataset.photo(row), buffer, max_pixels=None), row, out)

    def start(rows: Sequence[int]) -> Loading:
        batch = torch.empty((len(rows), size, size, 3), dtype=torch.uint8, pin_memory=pinned)
        chunks = zip(batched(rows, CHUNK), batch.split(CHUNK), strict=True)
        return batch, [pool.submit(load, some, outs.numpy()) for some, outs in chunks]

    threads = cores() if threads is None else min(cores(), threads)
    batches_ahead = max(BATCHES_AHEAD, -(-threads * CHUNK // max(1, len(batches[0])))) if batches else 0
    ahead: deque[Loading] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for rows in batches:
                ahead.append(start(rows))
                if len(ahead) > batches_ahead:
                    yield _finished(ahead.popleft())
            while ahead:
                yield _finished(ahead.popleft())
        finally:
            for _, chunks in ahead:
                for chunk in chunks:
                    chunk.cancel()


def _finished(loading: Loading) -> torch.Tensor:
    batch, chunks = loading
    for chunk in chunks:
        chunk.result()
    return batch


def batched(rows: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut `rows` into runs of `size`; the last may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
