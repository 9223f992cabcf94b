"""Batches of photos, as model inputs with labels, for training and for validation."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plumage.data.loading.gpu import DecodedPhotos, decodes_jpegs, load_batches_on_gpu
from plumage.data.loading.loader import Transform, batched, central_view, load_batches
from plumage.data.loading.model_input import to_model_input
from plumage.data.loading.transforms import RandomCrops
from plumage.training.build import train_image_size
from plumage.training.context import TrainingContext, TrainingData

Batch = tuple[Tensor, Tensor]
"""Model inputs, N x ..., and labels, int64 N, both on the device."""
EVAL_BATCH = 32
"""Photos per process and batch for validation and feature extraction."""


@dataclass(frozen=True)
class Batches:
    """The batches of an epoch. Counts are over all processes."""

    iterate: Callable[[int, int], Iterable[Batch]]
    """Given an epoch and the first batch's number, counted from 0: this process's shard of each batch."""
    num_batches: int
    num_samples: int
    batch_size: int  # samples of a full batch; the last one may be smaller

    def num_samples_of(self, batch: int) -> int:
        """Samples in batch number `batch`."""
        return min(self.batch_size, self.num_samples - batch * self.batch_size)


class BatchQueue(Iterator[Batch]):
    """Batches in order, which measures how long nothing could be computed for want of one."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = iter(batches)
        self._ahead: list[Batch | None] = []
        self._fetches = deque[tuple[torch.cuda.Event, torch.cuda.Event]]()
        self._waited = 0.0

    def __next__(self) -> Batch:
        started = time.perf_counter()
        batch = self._ahead.pop() if self._ahead else next(self._batches, None)
        self._waited += time.perf_counter() - started
        if batch is None:
            raise StopIteration
        return batch

    def fetch_ahead(self) -> None:
        """Wait for the next batch while a GPU computes what it has been given."""
        while self._fetches and self._fetches[0][1].query():
            self._waited += _seconds_between(*self._fetches.popleft())
        computed, fetched = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        computed.record()
        self._ahead.append(next(self._batches, None))
        fetched.record()  # at once after `computed`, unless the GPU was done before
        self._fetches.append((computed, fetched))

    def waited(self) -> float:
        """Seconds so far in which nothing could be computed for want of a batch; waits for a GPU."""
        while self._fetches:
            self._waited += _seconds_between(*self._fetches.popleft())
        return self._waited


def _seconds_between(one: torch.cuda.Event, other: torch.cuda.Event) -> float:
    other.synchronize()
    return one.elapsed_time(other) / 1000


def train_batches(data: TrainingData, context: TrainingContext) -> Batches:
    """The training photos, reshuffled and cropped each epoch, without a last batch too small for batch norm."""
    train, size = context.train, context.train.batch_size
    assert isinstance(size, int), f"train.batch_size is {size}: resolve it with fit_batch_size first"
    image_size = train_image_size(data.preprocessing, train.size_ratio)
    preprocessing = data.preprocessing.model_copy(update={"size": image_size})
    rows = np.array(data.rows["train"])
    rest = len(rows) % size
    count = len(rows) - (rest if rest < 2 * context.group.size and len(rows) > rest else 0)  # batch norm needs two
    decoded = DecodedPhotos(data.dataset, context.device) if decodes_jpegs(context.device) else None

    def iterate(epoch: int, first: int) -> Iterator[Batch]:
        crops = RandomCrops(preprocessing, train.augmentation, train.seed, epoch)
        order = rows[np.random.default_rng((train.seed, epoch)).permutation(len(rows))][:count]
        shards = _shards(batched(order.tolist(), size)[first:], context)
        if decoded is None:
            return _load(data, shards, crops, image_size, context.device)
        return _load_on_gpu(data, decoded, shards, crops)

    return Batches(iterate, len(batched(range(count), size)), num_samples=count, batch_size=size)


def eval_batches(data: TrainingData, split: str, context: TrainingContext, mirrored: bool = False) -> Batches:
    """The photos of `split` in order, centre-cropped as for evaluation, or their mirror images."""
    transform = central_view(data.preprocessing, mirrored)
    size = EVAL_BATCH * context.group.size
    batches = batched(data.rows[split], size)

    def iterate(epoch: int, first: int) -> Iterator[Batch]:
        shards = _shards(batches[first:], context)
        return _load(data, shards, transform, data.preprocessing.size, context.device)

    return Batches(iterate, len(batches), num_samples=len(data.rows[split]), batch_size=size)


def _shards(batches: Sequence[Sequence[int]], context: TrainingContext) -> list[Sequence[int]]:
    """This process's shard of each batch of rows."""
    return [shard for shard in map(context.group.shard, batches) if shard]


def _load(
    data: TrainingData, batches: Sequence[Sequence[int]], transform: Transform, image_size: int, device: torch.device
) -> Iterator[Batch]:
    targets, on_gpu = torch.from_numpy(data.dataset.targets()), device.type == "cuda"
    photos = load_batches(data.dataset, batches, transform, image_size, pinned=on_gpu)
    pairs: Iterable[Batch] = zip(photos, (targets[rows] for rows in batches), strict=True)
    for views, labels in _copied_ahead(pairs, device) if on_gpu else pairs:
        yield to_model_input(views, data.preprocessing, device), labels


def _load_on_gpu(
    data: TrainingData, decoded: DecodedPhotos, batches: Sequence[Sequence[int]], crops: RandomCrops
) -> Iterator[Batch]:
    targets, device = torch.from_numpy(data.dataset.targets()), decoded.device
    labels = targets[[row for rows in batches for row in rows]].to(device).split([len(rows) for rows in batches])
    for views, its_labels in zip(load_batches_on_gpu(decoded, batches, crops), labels, strict=True):
        yield to_model_input(views, data.preprocessing, device), its_labels


def _copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on the GPU `device`, each copied while the one before is computed."""
    stream, copied = torch.cuda.Stream(device), deque[tuple[Batch, torch.cuda.Event]]()

    def next_copied() -> Batch:
        batch, event = copied.popleft()
        torch.cuda.current_stream(device).wait_event(event)
        for tensor in batch:
            tensor.record_stream(torch.cuda.current_stream(device))
        return batch

    for photos, labels in batches:
        with torch.cuda.stream(stream):
            batch = photos.to(device, non_blocking=True), labels.pin_memory().to(device, non_blocking=True)
        copied.append((batch, stream.record_event()))
        if len(copied) > 1:
            yield next_copied()
    while copied:
        yield next_copied()
