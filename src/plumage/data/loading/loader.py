"""Batches of photos, decoded and transformed by threads ahead of the model (both release the GIL)."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from plumage.common.cores import cores
from plumage.data.dataset.decode import named, pixels
from plumage.data.dataset.store import Dataset
from plumage.data.loading.transforms import eval_view
from plumage.models.preprocessing import Preprocessing

BATCHES_AHEAD = 4
BUFFER = 1 << 21  # bytes of a decoded photo up to which a buffer is reused
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
    dataset: Dataset, batches: Sequence[Sequence[int]], transform: Transform, size: int, threads: int = BATCHES_AHEAD
) -> Iterator[torch.Tensor]:
    """Yield the transformed photos of each list of rows, uint8 N x size x size x 3, in order; `threads` threads work ahead.

    Raises:
        PhotoError: a photo can't be decoded; the message names it.
    """

    def load(rows: Sequence[int]) -> torch.Tensor:
        # One buffer for all photos stays in the CPU cache. It starts at an odd address, since libjpeg-turbo's stores to an
        # aligned one bypass the cache.
        buffer = np.empty(BUFFER + 1, np.uint8)[1:]
        batch = np.empty((len(rows), size, size, 3), np.uint8)
        for row, out in zip(rows, batch, strict=True):
            with named(dataset.keys[row]):
                transform(pixels(dataset.photo(row), buffer, max_pixels=None), row, out)
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
    """Cut `rows` into runs of `size`; the last may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
