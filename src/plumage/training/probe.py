"""The probe: a classifier on the features of a frozen network, solved exactly.

Multinomial logistic regression by L-BFGS, on features that are whitened first: where photos of one class differ among
themselves, a difference says less about the class. Whitening is linear, so all of it ends in the classifier's own weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize, minimize_scalar
from torch import nn

from plumage.common.progress import Progress
from plumage.errors import TrainingError

SHRINKAGE = 0.5
"""How far the scatter within classes is drawn towards a multiple of the identity (Friedman 1989, regularised discriminant
analysis). 0.3 to 0.7 were alike on val, 0.9 and 1 worse."""
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Those tried, on the mean cross-entropy's scale and for whitened features of mean square 1."""
HELD_OUT = 4
"""One in so many training photos of a class judges the penalties."""
ENOUGH, ROUGHLY = 1e-5, 1e-4
"""An iteration that gains less than this share of the loss is the last; the latter is for comparing penalties."""
CHUNK = 16_384
"""Rows at a time, so that memory doesn't grow with rows times classes."""
Labelled = tuple[torch.Tensor, torch.Tensor]
"""Features, float32 N x F, and labels, int64 N."""
OnIteration = Callable[[int, dict[str, float]], None]
"""Called after each iteration, counted from 1, with its metrics by their MLflow names."""


def fit_classifier(
    classifier: nn.Linear,
    views: list[Labelled],
    val: Labelled,
    penalty: float | None,
    iterations: int,
    on_iteration: OnIteration,
    shrinkage: float = SHRINKAGE,
    smoothing: float = 0.0,
) -> None:
    """Fit `classifier` in place to `views`, each the features of all training photos in the same order.

    The penalty is half its value times the squared weights. None chooses it on a quarter of the training photos, by the
    cross-entropy at the best temperature (Guo et al. 2017, arXiv 1706.04599), which then scales the classifier. With `smoothing`, what
    scales it is best for the training photos' own labels, smoothed: steps that go on from there with such labels have no scale to
    undo. `val` is only reported. TrainingError when a feature is no finite number.
    """
    features, labels = (torch.cat(tensors) for tensors in zip(*views, strict=True))
    if not torch.isfinite(features).all():
        raise TrainingError("model.weights: the network's features are no finite numbers; takes whole weights")
    whitening = _Whitening.of(features, labels, classifier.out_features, shrinkage)
    features = whitening.apply(features)
    sharpness, classes = 1.0, classifier.out_features
    if penalty is None:
        held_out = _held_out(views[0][1]).repeat(len(views))
        penalty, sharpness = _choose(features, labels, held_out, classes, iterations)
        print(f"probe: penalty {penalty:g}, chosen on a part of the training photos", flush=True)
    seen = (whitening.apply(val[0]), val[1])

    def report(iteration: int, flat: np.ndarray) -> None:
        metrics = {}
        for part, photos in (("train", (features, labels)), ("val", seen)):
            metrics[f"{part}/loss"], metrics[f"{part}/accuracy"] = _judge(flat * sharpness, *photos)
        on_iteration(iteration, metrics)

    flat = _solve(features, labels, classes, penalty, iterations, ENOUGH, report=report)
    if smoothing:
        sharpness, _ = _best_factor(_logits(flat, features), labels, smoothing)
    weight, bias = _split(flat * sharpness, features.shape[1])
    with torch.no_grad():
        weight = whitening.matrix.cpu().double() @ weight
        classifier.weight.copy_(weight.T)
        classifier.bias.copy_(bias - whitening.mean.cpu().double() @ weight)


@dataclass(frozen=True)
class _Whitening:
    mean: torch.Tensor
    matrix: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor, labels: torch.Tensor, classes: int, shrinkage: float) -> "_Whitening":
        """The affine map to features whose shrunk scatter within classes is a multiple of the identity, of mean square 1."""
        width = features.shape[1]
        counts = torch.bincount(labels, minlength=classes).clamp(min=1)
        centres = features.new_zeros(classes, width).index_add_(0, labels, features) / counts[:, None]
        mean = features.mean(0)
        within, around = (features.new_zeros(width, width) for _ in range(2))
        for rows, targets in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
            within += _squares(rows - centres[targets])
            around += _squares(rows - mean)
        within = (within / len(features)).cpu().double()
        around = (around / len(features)).cpu().double()
        within = torch.lerp(within, torch.eye(width).double() * within.diagonal().mean().clamp(min=1e-12), shrinkage)
        values, vectors = torch.linalg.eigh(within)
        matrix = vectors / values.clamp(min=1e-12).sqrt() @ vectors.T
        scale = ((matrix @ around @ matrix).trace() / width).clamp(min=1e-12).sqrt()
        return cls(mean, (matrix / scale).float().to(features.device))

    def apply(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) @ self.matrix


def _squares(rows: torch.Tensor) -> torch.Tensor:
    return rows.T @ rows


def _held_out(labels: torch.Tensor) -> torch.Tensor:
    """Whether a photo judges the penalties: each class's fourth, eighth ..., so that a class of three is only trained on."""
    numbers = labels.cpu().numpy()
    order = np.argsort(numbers, kind="stable")
    starts = np.searchsorted(numbers[order], numbers[order])
    place = np.empty(len(numbers), dtype=np.int64)
    place[order] = np.arange(len(numbers)) - starts
    return torch.from_numpy(place % HELD_OUT == HELD_OUT - 1).to(labels.device)


def _choose(
    features: torch.Tensor, labels: torch.Tensor, held_out: torch.Tensor, classes: int, iterations: int
) -> tuple[float, float]:
    """The penalty with the lowest cross-entropy on the part held out, at the factor on the logits that suits it best, and
    that factor; the middle one and 1 where that part is empty.
    """
    if not held_out.any():
        return PENALTIES[len(PENALTIES) // 2], 1.0
    fitted, judged = (features[~held_out], labels[~held_out]), (features[held_out], labels[held_out])
    # As if one more photo were wrong (Platt 1999): where all are right, an endless factor would be the best.
    doubt = 1 / (len(judged[1]) + 2)
    flat, best = None, (float("inf"), PENALTIES[0], 1.0)
    with Progress("probe: penalties", len(PENALTIES)) as progress:
        for penalty in PENALTIES:  # from the strongest, each from the one before
            flat = _solve(*fitted, classes, penalty, iterations, ROUGHLY, flat)
            factor, loss = _best_factor(_logits(flat, judged[0]), judged[1], doubt)
            if loss > best[0]:
                break
            best = (loss, penalty, factor)
            progress.advance()
    return best[1], best[2]


def _best_factor(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> tuple[float, float]:
    """The factor on the logits that has the lowest cross-entropy with the smoothed labels, and that."""

    def loss(log: float) -> float:
        return float(F.cross_entropy(logits * float(np.exp(log)), labels, label_smoothing=smoothing))

    at = minimize_scalar(loss, bounds=(-3, 5), method="bounded")
    return float(np.exp(at.x)), float(at.fun)


def objective_of(
    features: torch.Tensor, labels: torch.Tensor, classes: int, penalty: float
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Of flat weights, the mean cross-entropy with the penalty, and its gradient."""
    width = features.shape[1]

    @torch.inference_mode()
    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = (tensor.float().to(features.device) for tensor in _split(flat, width))
        loss, weight_grad, bias_grad = 0.0, torch.zeros_like(weight), torch.zeros_like(bias)
        for rows, targets in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
            logs = F.log_softmax(torch.addmm(bias, rows, weight), 1)
            loss -= float(logs.gather(1, targets[:, None]).sum())
            errors = logs.exp_().scatter_add_(1, targets[:, None], logs.new_full((len(targets), 1), -1.0))
            weight_grad.addmm_(rows.T, errors)
            bias_grad += errors.sum(0)
        gradient = torch.cat([weight_grad.flatten(), bias_grad]).cpu().double().numpy() / len(features)
        weights = flat[: width * classes]
        gradient[: width * classes] += penalty * weights
        return loss / len(features) + penalty / 2 * float(weights @ weights), gradient

    return objective


def _solve(
    features: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    penalty: float,
    iterations: int,
    tolerance: float,
    start: np.ndarray | None = None,
    report: Callable[[int, np.ndarray], None] | None = None,
) -> np.ndarray:
    """The weights, flat, that minimise mean cross-entropy and penalty."""
    done = 0

    def each(flat: np.ndarray) -> None:
        nonlocal done
        done += 1
        if report:
            report(done, flat)

    start = np.zeros((features.shape[1] + 1) * classes) if start is None else start
    objective = objective_of(features, labels, classes, penalty)
    options = {"maxiter": iterations, "ftol": tolerance, "gtol": 1e-6}
    result = minimize(objective, start, jac=True, method="L-BFGS-B", callback=each, options=options)
    solution: np.ndarray = result.x
    return solution


def _split(flat: np.ndarray, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight, F x C, and bias, C, float64."""
    tensor = torch.from_numpy(flat).view(width + 1, -1)
    return tensor[:-1], tensor[-1]


@torch.inference_mode()
def _logits(flat: np.ndarray, features: torch.Tensor) -> torch.Tensor:
    weight, bias = (tensor.float().to(features.device) for tensor in _split(flat, features.shape[1]))
    return torch.addmm(bias, features, weight)


def _judge(flat: np.ndarray, features: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    loss, right = 0.0, 0
    for rows, targets in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
        logits = _logits(flat, rows)
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
        right += int((logits.argmax(1) == targets).sum())
    return loss / len(labels), right / len(labels)
