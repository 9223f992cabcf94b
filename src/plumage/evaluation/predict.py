"""Class probabilities of many photos of a data set."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from plumage import kernels
from plumage.data.loader import in_batches, load_batches
from plumage.data.store import Dataset
from plumage.data.transforms import Preprocessing, eval_view, to_model_input
from plumage.errors import ModelError
from plumage.models.inference import for_inference
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

    `model` gives N x C logits; it is moved to `device` and set to evaluation. Photos are decoded a few batches ahead of it, so
    memory doesn't grow with their number. ModelError when a photo's logits are not finite: the weights have diverged.
    """
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it
    batches = in_batches(indices, batch_size)
    kernels.keep_memory()
    answers = for_inference(model)

    def view(photo: NDArray[np.uint8], row: int, out: NDArray[np.uint8]) -> None:
        eval_view(photo, preprocessing, out=out)

    views = load_batches(dataset, batches, view, preprocessing.size)
    probabilities = np.empty((len(indices), len(dataset.classes)), dtype=np.float32)
    done = 0
    with torch.inference_mode():
        for batch in track(views, "Predicting, batches", total=len(batches)):
            logits = answers(to_model_input(batch, preprocessing, device))
            if not torch.isfinite(logits).all():
                raise ModelError("the model's outputs are not finite: training diverged; try a lower train.lr")
            probabilities[done : done + len(batch)] = logits.cpu().double().softmax(dim=1).numpy()
            done += len(batch)
    return probabilities
