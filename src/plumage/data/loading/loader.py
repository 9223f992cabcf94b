"""Batches of photos, decoded and cut by a few threads ahead of the model (both work outside Python's lock)."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from plumage.common.cores import cores
from plumage.data.dataset.decode import pixels
from plumage.data.dataset.store import Dataset
from plumage.data.loading.transforms import eval_view
from plumage.models.preprocessing import Preprocessing

BATCHES_AHEAD = 4
BUFFER = 1 << 21
"""Bytes of a decoded photo that are worth keeping a place for."""
Transform = Callable[[np.ndarray, int, np.ndarray], object]
"""Cuts a decoded photo, uint8 H x W x 3, given its row, to what it writes into the last, size x size x 3."""


def central_view(preprocessing: Preprocessing, mirrored: bool = False) -> Transform:
    """What a photo is judged by, or its mirror image."""

    def view(photo: np.ndarray, row: int, out: np.ndarray) -> None:
        eval_view(photo, preprocessing, mirrored, out)

    return view


def typical_side(dataset: Dataset) -> int:
    """The median short side of the photos in pixels."""
    return int(np.median(np.minimum(dataset.column("width"), dataset.column("height"))))


def load_batches(
    dataset: Dataset, batches: Sequence[Sequence[int]], view: Transform, size: int, threads: int = BATCHES_AHEAD
) -> Iterator[torch.Tensor]:
    """For each list of rows the `view` of its photos, uint8 N x size x size x 3, in order, by up to `threads` threads, one a core.

    PhotoError for a photo that can't be decoded.
    """

    def load(rows: Sequence[int]) -> torch.Tensor:
        # Of each photo in turn, to stay in the cache: from an odd address on, as libjpeg-turbo writes past it to an aligned one.
        buffer = np.empty(BUFFER + 1, np.uint8)[1:]
        batch = np.empty((len(rows), size, size, 3), np.uint8)
        for row, out in zip(rows, batch, strict=True):
            view(pixels(dataset.photo(row), buffer), row, out)
        return torch.from_numpy(batch)

    ahead: deque[Future[torch.Tensor]] = deque()
    with ThreadPoolExecutor(min(cores(), threads)) as pool:
        try:
            for rows in batches:
                ahead.append(pool.submit(load, rows))
                if len(ahead) > BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def batched(rows: Sequence[int], size: int) -> list[Sequence[int]]:
    """`rows` cut into runs of `size`; the last may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
