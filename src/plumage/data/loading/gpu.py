"""Batches of training photos that a GPU decodes (nvJPEG, through torchvision) and crops.

What isn't a plain JPEG, or what nvJPEG refuses, is decoded on the cores. A crop is the one that the cores would take, but nvJPEG's
pixels differ a little from libjpeg's, so photos that are evaluated are always decoded on the cores.
"""

import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from plumage.accelerate.kernels import gpu as kernels
from plumage.data.dataset.decode import plain_jpeg_size
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import batched, load_batches
from plumage.data.loading.transforms import RandomCrops
from plumage.errors import DataError

HAVE_JPEG_ENGINES = ((8, 0), (9, 0), (10, 0), (10, 3))
"""Compute capabilities of A30 and A100, H100 and H200, B200 and B300, which decode JPEGs in units of their own."""
PHOTOS, PIXELS = 256, 1 << 26
"""What is decoded at a time, at most. nvJPEG is slow for a few photos; decoded ones take 3 bytes per pixel."""
AHEAD, THREADS = 3, 2
LEFT_FREE = 0.5
"""Share of a GPU's memory that photos leave to training: a step is recorded, and the last one of an epoch computed beside that."""


def decodes_jpegs(device: torch.device) -> bool:
    """Whether `device` is a GPU that decodes photos faster than the cores would."""
    if device.type != "cuda" or not kernels.HAS_TRITON:
        return False
    return torch.cuda.get_device_capability(device) in HAVE_JPEG_ENGINES


class DecodedPhotos:
    """The photos of `dataset` on a GPU, uint8 3 x H x W; each is decoded again unless there was room to keep it.

    NVIDIA's DALI keeps them, too (`cache_size` of fn.decoders.image). Several threads may ask at once.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device
        self.areas = np.array(dataset.column("width")) * np.array(dataset.column("height"))
        self._kept: dict[int, Tensor | None] = {}

    def decode(self, rows: Sequence[int]) -> list[Tensor | None]:
        """The photos of `rows`, on the current stream; None for what nvJPEG doesn't take."""
        photos = {row: self._kept[row] for row in rows if row in self._kept}
        new = [row for row in rows if row not in photos]
        photos |= zip(new, self._keep(new, self._decode(new)), strict=True)
        return [photos[row] for row in rows]

    def _decode(self, rows: Sequence[int]) -> list[Tensor | None]:
        files = [memoryview(self.dataset.photo(row)).cast("B") for row in rows]
        plain = [plain_jpeg_size(file, None) is not None for file in files]
        photos = iter(_decoded([file for file, is_plain in zip(files, plain, strict=True) if is_plain], self.device))
        return [next(photos) if is_plain else None for is_plain in plain]

    def _keep(self, rows: Sequence[int], photos: list[Tensor | None]) -> list[Tensor | None]:
        """The photos, copied into one allocation if they stay."""
        free, total = torch.cuda.mem_get_info(self.device)
        taken = [photo for photo in photos if photo is not None]
        if not taken or free - sum(photo.nbytes for photo in taken) < LEFT_FREE * total:
            return photos
        parts = iter(torch.cat([photo.flatten() for photo in taken]).split([photo.numel() for photo in taken]))
        copies = [None if photo is None else next(parts).view_as(photo) for photo in photos]
        self._kept |= zip(rows, copies, strict=True)
        return copies


def load_batches_on_gpu(
    photos: DecodedPhotos, batches: Sequence[Sequence[int]], crops: RandomCrops
) -> Iterator[Tensor]:
    """Yield crops of the photos of each list of rows, uint8 N x size x size x 3 on the GPU, in order.

    Raises:
        PhotoError: a photo can't be decoded; the message names it.
        DataError: the GPU is out of memory.
    """
    if not batches:
        return
    # Torch lets go of the interpreter in each operation, and at the usual 5 ms gets it back late while a thread prepares photos.
    with switching_every(2e-4), ThreadPoolExecutor(THREADS) as pool:
        ahead: deque[Future[list[Tensor]]] = deque()
        try:
            for some in batched(batches, max(1, PHOTOS // len(batches[0]))):
                rows = [row for batch in some for row in batch]
                ahead.append(pool.submit(_load, photos, rows, crops, [len(batch) for batch in some]))
                if len(ahead) > AHEAD:
                    yield from _handed_over(ahead.popleft(), photos.device)
            while ahead:
                yield from _handed_over(ahead.popleft(), photos.device)
        finally:
            for load in ahead:
                load.cancel()


def _handed_over(load: "Future[list[Tensor]]", device: torch.device) -> list[Tensor]:
    """The batches that a thread has loaded, for the use of the current stream."""
    try:
        loaded = load.result()
    except torch.OutOfMemoryError:
        raise DataError(
            "train.batch_size: the GPU is out of memory for decoding photos; set a smaller batch size"
        ) from None
    loaded[0].record_stream(torch.cuda.current_stream(device))  # one allocation holds all
    return loaded


def _load(photos: DecodedPhotos, rows: Sequence[int], crops: RandomCrops, sizes: list[int]) -> list[Tensor]:
    """Batches of these `sizes`."""
    device, size = photos.device, crops.preprocessing.size
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        views = torch.empty(len(rows), size, size, 3, dtype=torch.uint8, device=device)
        left: list[int] = []
        for places in _parts(photos.areas[list(rows)].tolist()):
            left += _crop(photos, rows, places, crops, views)
            # nvJPEG's stream doesn't wait for the last use of memory that it is given again.
            torch.cuda.current_stream().synchronize()
        if left:
            (others,) = load_batches(photos.dataset, [[rows[place] for place in left]], crops, size)
            views[left] = others.to(device)
            torch.cuda.current_stream().synchronize()
    return list(views.split(sizes))


def _parts(areas: Sequence[int]) -> Iterator[list[int]]:
    """The places of photos of these areas, in parts that have at most PIXELS together, or are one photo."""
    part, total = list[int](), 0
    for place, area in enumerate(areas):
        if part and total + area > PIXELS:
            yield part
            part, total = [], 0
        part.append(place)
        total += area
    yield part


def _crop(
    photos: DecodedPhotos, rows: Sequence[int], places: Sequence[int], crops: RandomCrops, views: Tensor
) -> list[int]:
    """Crop the photos at `places` into `views`. Return the places of those that nvJPEG doesn't take."""
    decoded = dict(zip(places, photos.decode([rows[place] for place in places]), strict=True))
    taken = {place: photo for place, photo in decoded.items() if photo is not None}
    if taken:
        boxes = [crops.crop(rows[place], photo.shape[2], photo.shape[1]) for place, photo in taken.items()]
        kernels.resample(list(taken.values()), boxes, crops.preprocessing.interpolation, views, list(taken))
    return [place for place in places if place not in taken]


def _decoded(files: Sequence[memoryview], device: torch.device) -> list[Tensor | None]:
    """Each JPEG as uint8 3 x H x W; None where nvJPEG refuses it, whatever is decoded beside it."""
    from torchvision.io import ImageReadMode, decode_jpeg  # late: a machine without a GPU does without

    if not files:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchvision 0.29 points to TorchCodec; a file's memory can't be written
            tensors = [torch.frombuffer(file, dtype=torch.uint8) for file in files]
            return list(decode_jpeg(tensors, ImageReadMode.RGB, device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return [None] if len(files) == 1 else [photo for file in files for photo in _decoded([file], device)]


@contextmanager
def switching_every(seconds: float) -> Iterator[None]:
    """Let Python's threads take turns this often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
