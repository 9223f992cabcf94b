"""A saved model on a GPU, or any other device of torch, for a `Predictor`."""

import numpy as np
import torch
from numpy.typing import NDArray

from plumage.accelerate.inference import compile_for_inference
from plumage.data.loading.model_input import to_model_input
from plumage.inference.predictor import Network
from plumage.models.model_files import ModelFiles
from plumage.models.saved_model import build_model


def network_on(device: str, files: ModelFiles) -> Network:
    """The model on `device`, as torch names it."""
    model, preprocessing = build_model(files).model, files.description.preprocessing
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    logits = compile_for_inference(model)

    @torch.inference_mode()
    def network(views: NDArray[np.uint8]) -> NDArray[np.float32]:
        computed: NDArray[np.float32] = (
            logits(to_model_input(torch.from_numpy(views), preprocessing, device)).cpu().numpy()
        )
        return computed

    return network
