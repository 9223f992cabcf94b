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
"""Search range."""
PRIOR_WIDTH = 0.3
"""Standard deviation of the prior on the temperature's logarithm. docs/outputs.md has what was measured."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The most probable temperature given N photos and a prior around 1, to 4 digits; 1 without photos.

    Its logarithm has a normal prior, so few photos hardly move it away from 1, and many have the temperature with the lowest log loss
    (Guo et al. 2017, arXiv 1706.04599). Without the prior, photos that are all correct would have a temperature of 0. Photos with
    logits that are not finite don't count.
    """
    finite = np.isfinite(logits).all(axis=1)
    exact, labels = logits[finite].astype(np.float64), labels[finite]
    count = len(labels)
    if not count:
        return 1.0
    label_logits = exact[np.arange(count), labels]

    def loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        log_loss = (logsumexp(exact * scale, axis=1) - label_logits * scale).sum()
        return float(log_loss + log_temperature**2 / (2 * PRIOR_WIDTH**2))

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
