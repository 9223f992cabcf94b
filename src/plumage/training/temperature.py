"""Temperature scaling: calibrate a model's probabilities on the val photos."""

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from plumage.inference.predict import predict
from plumage.models.classifier import ImageClassifier
from plumage.training.context import TrainingData
from plumage.training.state import History

TEMPERATURES = (0.05, 20.0)
"""Search range. With few photos, all of them right, log loss alone would drive the temperature to 0."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the lowest log loss, to 4 digits; 1 without photos (Guo et al. 2017, arXiv 1706.04599)."""
    if not len(labels):
        return 1.0
    exact = logits.astype(np.float64)
    label_logits = exact[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float((logsumexp(exact * scale, axis=1) - label_logits * scale).mean())

    low, high = map(math.log, TEMPERATURES)
    return float(f"{math.exp(minimize_scalar(loss, bounds=(low, high), method='bounded').x):.4g}")


@torch.inference_mode()
def best_temperature(model: ImageClassifier, history: History, data: TrainingData, device: torch.device) -> float:
    """The temperature that calibrates the trained `model` on the val photos of `data`."""
    rows = data.rows["val"]
    if history.val_features is None:
        logits = predict(model, data.dataset, rows, data.preprocessing, device).logits
    else:
        logits = model.classifier(history.val_features).float().cpu().numpy()
    return fit_temperature(logits, data.dataset.targets()[rows])
