"""Class probabilities of many photos of a data set."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from plumage.data.store import Dataset
from plumage.data.transforms import Preprocessing, decode, eval_view, to_model_input
from plumage.errors import ModelError
from plumage.progress import track


def predict(
    model: nn.Module,
    dataset: Dataset,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device | str,
    batch_size: int = 32,
) -> NDArray[np.float32]:
    """Probabilities of photos `indices`, in their order: len(indices) x C float32.

    `model` gives N x C logits; it is moved to `device` and set to evaluation. Threads decode a few batches ahead of it
    (Pillow lets go of Python's lock), so memory doesn't grow with the number of photos. ModelError when a photo's
    logits are not finite: the weights have diverged.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it
    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    probabilities = np.empty((len(indices), len(dataset.classes)), dtype=np.float32)
    done = 0
    with torch.inference_mode():
        for views in track(_decoded(dataset, batches, preprocessing), "Predicting, batches", total=len(batches)):
            logits = model(to_model_input(torch.from_numpy(views), preprocessing, device))
            if not torch.isfinite(logits).all():
                raise ModelError("the model's outputs are not finite: training diverged; try a lower train.lr")
            probabilities[done : done + len(views)] = logits.cpu().double().softmax(dim=1).numpy()
            done += len(views)
    return probabilities


def _decoded(
    dataset: Dataset, batches: Sequence[Sequence[int]], preprocessing: Preprocessing
) -> Iterator[NDArray[np.uint8]]:
    """The batches' central views, N x H x W x 3, in order."""

    def load(batch: Sequence[int]) -> NDArray[np.uint8]:
        return np.stack([eval_view(decode(dataset.photo(index)), preprocessing) for index in batch])

    workers = os.cpu_count() or 1
    ahead: deque[Future[NDArray[np.uint8]]] = deque()
    with ThreadPoolExecutor(workers, "decode") as pool:
        try:
            for batch in batches:
                ahead.append(pool.submit(load, batch))
                if len(ahead) > workers + 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:  # only after an error: don't decode what nobody will see
                future.cancel()
