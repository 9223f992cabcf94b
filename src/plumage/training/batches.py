"""Batches of photos, as model inputs with labels, for training and for validation."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plumage.data.loading.gpu import decodes_jpegs, load_batches_on_gpu
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


def train_batches(data: TrainingData, context: TrainingContext) -> Batches:
    """The training photos, reshuffled and cropped each epoch, without a last batch too small for batch norm."""
    train, size = context.train, context.train.batch_size
    assert isinstance(size, int), f"train.batch_size is {size}: resolve it with fit_batch_size first"
    image_size = train_image_size(data.preprocessing, train.size_ratio)
    preprocessing = data.preprocessing.model_copy(update={"size": image_size})
    rows = np.array(data.rows["train"])
    rest = len(rows) % size
    count = len(rows) - (rest if rest < 2 * context.group.size and len(rows) > rest else 0)  # batch norm needs two

    def iterate(epoch: int, first: int) -> Iterator[Batch]:
        crops = RandomCrops(preprocessing, train.augmentation, train.seed, epoch)
        order = rows[np.random.default_rng((train.seed, epoch)).permutation(len(rows))][:count]
        return _load(data, batched(order.tolist(), size)[first:], crops, image_size, context)

    return Batches(iterate, len(batched(range(count), size)), num_samples=count, batch_size=size)


def eval_batches(data: TrainingData, split: str, context: TrainingContext, mirrored: bool = False) -> Batches:
    """The photos of `split` in order, centre-cropped as for evaluation, or their mirror images."""
    transform = central_view(data.preprocessing, mirrored)
    size = EVAL_BATCH * context.group.size
    batches = batched(data.rows[split], size)

    def iterate(epoch: int, first: int) -> Iterator[Batch]:
        return _load(data, batches[first:], transform, data.preprocessing.size, context)

    return Batches(iterate, len(batches), num_samples=len(data.rows[split]), batch_size=size)


def _load(
    data: TrainingData, batches: Sequence[Sequence[int]], transform: Transform, image_size: int, context: TrainingContext
) -> Iterator[Batch]:  # fmt: skip
    """This process's shard of each batch of rows."""
    targets, device = torch.from_numpy(data.dataset.targets()), context.device
    shards = [shard for shard in map(context.group.shard, batches) if shard]
    pairs: Iterable[Batch]
    if isinstance(transform, RandomCrops) and decodes_jpegs(device):
        labels = targets[[row for shard in shards for row in shard]].to(device).split([len(shard) for shard in shards])
        pairs = zip(load_batches_on_gpu(data.dataset, shards, transform, device), labels, strict=True)
    else:
        loaded = load_batches(data.dataset, shards, transform, image_size, pinned=device.type == "cuda")
        pairs = zip(loaded, (targets[rows] for rows in shards), strict=True)
        pairs = _copied_ahead(pairs, device) if device.type == "cuda" else pairs
    for photos, its_labels in pairs:
        yield to_model_input(photos, data.preprocessing, device), its_labels


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
