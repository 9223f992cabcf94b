"""Temperature scaling (Guo et al. 2017, arXiv 1706.04599): calibrate a trained model on the val photos."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from plumage.data.dataset.store import Dataset
from plumage.inference.predict import predict
from plumage.models.efficientnet import EfficientNet
from plumage.models.preprocessing import Preprocessing
from plumage.training.trainer import History

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
TEMPERATURES = (0.05, 20.0)
"""Lowest and highest: with few photos, all predicted correctly, the log loss falls down to temperature 0."""


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature that minimises the log loss of N x C `logits` / temperature (section 4.2), to 4 digits; 1 without photos.

    It changes confidences and no prediction.
    """
    if not len(labels):
        return 1.0
    exact = logits.astype(np.float64)
    of_label = exact[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float((logsumexp(exact * scale, axis=1) - of_label * scale).mean())

    low, high = map(math.log, TEMPERATURES)
    return float(f"{math.exp(minimize_scalar(loss, bounds=(low, high), method='bounded').x):.4g}")


@torch.inference_mode()
def best_temperature(
    model: EfficientNet,
    history: History,
    dataset: Dataset,
    val: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device,
) -> float:
    """The best temperature of `model` on the rows `val`. A probe's `history` has their features, which saves a forward pass."""
    if history.val_features is None:
        logits = predict(model, dataset, val, preprocessing, device).logits
    else:
        logits = model.classifier(history.val_features).float().cpu().numpy()
    return fit_temperature(logits, dataset.targets()[list(val)])
