"""Temperature scaling: how sure a trained model may be."""

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
from plumage.models.classifier import ImageClassifier
from plumage.models.preprocessing import Preprocessing
from plumage.training.trainer import History

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
TEMPERATURES = (0.05, 20.0)
"""Where the best one is sought: with few photos, all of them right, the likeliest would be 0."""


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature at which logits / temperature have the lowest log loss (Guo et al. 2017, arXiv 1706.04599, section 4.2), to 4
    digits. It changes no prediction. 1 without photos.
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
    model: ImageClassifier,
    history: History,
    dataset: Dataset,
    val: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device,
) -> float:
    """The temperature at which `model`, as `history` left it, says best how sure it may be on the photos `val`."""
    if history.val_features is None:
        logits = predict(model, dataset, val, preprocessing, device).logits
    else:
        logits = model.classifier(history.val_features).float().cpu().numpy()
    return fit_temperature(logits, dataset.targets()[list(val)])
