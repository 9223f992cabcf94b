"""A probe: a linear classifier on the features of a frozen network, fitted to the optimum.

Multinomial logistic regression by L-BFGS on whitened features: directions in which photos of one class vary count for
less. Whitening is linear, so the result is an ordinary linear layer.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor, nn

from plumage.common.progress import Progress
from plumage.errors import TrainingError
from plumage.training.state import Metrics

SHRINKAGE = 0.5
"""How far the within-class scatter is shrunk towards a multiple of the identity (Friedman 1989, regularised discriminant
analysis). On val, 0.3 to 0.7 were alike; 0.9 and 1 were worse."""
L2_GRID = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Penalties to choose from, relative to the mean cross-entropy, for whitened features of mean square 1."""
HOLD_OUT_EVERY = 4
"""One in this many training samples per class is held out to choose the penalty."""
TOLERANCE, GRID_TOLERANCE = 1e-5, 1e-4
"""L-BFGS stops when an iteration gains less than this share of the loss; the second is for comparing penalties."""
CHUNK = 16_384
"""Rows at a time, so that memory does not grow with rows times classes."""
Labelled = tuple[Tensor, Tensor]
"""Features, float32 N x F, and labels, int64 N."""
OnIteration = Callable[[int, Metrics], None]
"""Called after each iteration, counted from 1, with its metrics."""


@dataclass(frozen=True)
class ProbeSettings:
    """How to fit a classifier."""

    l2: float | None = None  # penalty: l2 / 2 times the squared weights; None: chosen on held-out training samples
    max_iterations: int = 200
    shrinkage: float = SHRINKAGE  # 1: no whitening
    label_smoothing: float = 0.0  # if over 0, the classifier's logits are scaled to fit the smoothed training labels


def fit_classifier(
    classifier: nn.Linear, views: list[Labelled], val: Labelled, settings: ProbeSettings, on_iteration: OnIteration,
    class_weights: Tensor | None = None,
) -> None:  # fmt: skip
    """Fit `classifier` in place to `views`, each with the features of all training samples in the same order.

    A chosen `l2` is the one with the lowest cross-entropy, at its best temperature (Guo et al. 2017, arXiv 1706.04599),
    on a quarter of the training samples; that temperature then scales the classifier. With label smoothing the scale
    fits the smoothed labels of all training samples instead, so that training that continues with such labels has no
    scale to undo. With `class_weights` (C), each training sample's cross-entropy counts that much, in fitting and in these
    choices. `val` is only reported. Reported figures have no weights. TrainingError if a feature is not finite.
    """
    features, labels = (torch.cat(tensors) for tensors in zip(*views, strict=True))
    if not torch.isfinite(features).all():
        raise TrainingError("model.weights: some features are not finite; takes an undamaged weights file")
    num_classes, l2, scale = classifier.out_features, settings.l2, 1.0
    mean, whitening = _whitening(features, labels, num_classes, settings.shrinkage)
    features = (features - mean) @ whitening
    if l2 is None:
        held_out = _held_out(views[0][1]).repeat(len(views))
        l2, scale = _choose_l2(features, labels, held_out, num_classes, settings.max_iterations, class_weights)
        print(f"probe: l2 {l2:g}, chosen on held-out training photos", flush=True)
    splits = {"train": (features, labels), "val": ((val[0] - mean) @ whitening, val[1])}

    def report(iteration: int, params: np.ndarray) -> None:
        metrics = {}
        for split, samples in splits.items():
            metrics[f"{split}/loss"], metrics[f"{split}/accuracy"] = _evaluate(params * scale, *samples)
        on_iteration(iteration, metrics)

    params = _minimize(
        features,
        labels,
        num_classes,
        l2,
        settings.max_iterations,
        TOLERANCE,
        report=report,
        class_weights=class_weights,
    )
    if settings.label_smoothing:
        scale, _ = _best_scale(_logits(params, features), labels, settings.label_smoothing, class_weights)
    weight, bias = _unflatten(params * scale, features.shape[1])
    with torch.no_grad():
        weight = whitening.cpu().double() @ weight
        classifier.weight.copy_(weight.T)
        classifier.bias.copy_(bias - mean.cpu().double() @ weight)


def out_of_fold_probabilities(
    features: Tensor, labels: Tensor, folds: Tensor, num_classes: int, settings: ProbeSettings
) -> Tensor:
    """Class probabilities of each sample by a classifier fitted to the samples of the other folds: float32, N x C.

    `folds` has the fold of each sample, int64 N, counted from 0. A penalty that `settings` leaves open, and the temperature,
    are chosen once, on held-out samples of those that the first classifier is fitted to.
    """
    l2, scale = settings.l2, 1.0
    probabilities = torch.zeros(len(features), num_classes)
    numbers = folds.unique().tolist()
    with Progress("label errors: folds", len(numbers)) as progress:
        for number in numbers:
            rest, out = folds != number, folds == number
            mean, whitening = _whitening(features[rest], labels[rest], num_classes, settings.shrinkage)
            fitted = (features[rest] - mean) @ whitening
            if l2 is None:
                held_out = _held_out(labels[rest])
                l2, scale = _choose_l2(fitted, labels[rest], held_out, num_classes, settings.max_iterations, None)
            params = _minimize(fitted, labels[rest], num_classes, l2, settings.max_iterations, GRID_TOLERANCE)
            logits = _logits(params * scale, (features[out] - mean) @ whitening)
            probabilities[out.cpu()] = logits.softmax(1).cpu()
            progress.advance()
    return probabilities


def _whitening(features: Tensor, labels: Tensor, num_classes: int, shrinkage: float) -> tuple[Tensor, Tensor]:
    """The features' mean, F, and a matrix, F x F, that takes centred features to a mean square of 1.

    It makes the shrunk within-class scatter a multiple of the identity.
    """
    width, mean = features.shape[1], features.mean(0)
    counts = torch.bincount(labels, minlength=num_classes)
    sums = features.new_zeros(num_classes, width).index_add_(0, labels, features)
    class_means = sums / counts.clamp(min=1)[:, None]
    values, vectors = _within_class_scatter(features, labels, class_means)
    floor = (shrinkage * values.sum() / width).clamp(min=1e-12)
    factors = ((1 - shrinkage) * values + floor).rsqrt()
    matrix = torch.eye(width).double() * floor.rsqrt() + vectors * (factors - floor.rsqrt()) @ vectors.T
    within = (values * factors.square()).sum()
    between = ((class_means - mean).cpu().double() @ matrix).square().sum(1) @ counts.cpu().double() / len(labels)
    scale = ((within + between) / width).clamp(min=1e-12).sqrt()
    return mean, (matrix / scale).float().to(features.device)


def _within_class_scatter(features: Tensor, labels: Tensor, class_means: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, none below 0, and eigenvectors, as columns, of the scatter of N x F `features` around their class's mean.

    With N less than F they come from N x N products, which is faster. Eigenvectors whose value is 0 are left out then.
    """
    count, width = features.shape
    if count < width:
        deviations = (features - class_means[labels]).cpu().double()
        values, left = _eigenpairs(deviations @ deviations.T / count)
        kept = values > 1e-12 * values[-1]
        return values[kept], deviations.T @ left[:, kept] / (count * values[kept]).sqrt()
    scatter = features.new_zeros(width, width)
    for rows, targets in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
        deviations = rows - class_means[targets]
        scatter += deviations.T @ deviations
    return _eigenpairs((scatter / count).cpu().double())


def _eigenpairs(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, none below 0, and eigenvectors, as columns, of a positive semidefinite matrix."""
    with _one_thread():
        values, vectors = torch.linalg.eigh(matrix)
    return values.clamp(min=0), vectors


@contextmanager
def _one_thread() -> Iterator[None]:
    """LAPACK's threads wait for each other after each column: beside other processes it takes 40 times as long on two threads as on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _held_out(labels: Tensor) -> Tensor:
    """Mask of samples to choose the penalty on: each class's 4th, 8th ...; a class of three is only trained on."""
    targets = labels.cpu().numpy()
    order = np.argsort(targets, kind="stable")
    starts = np.searchsorted(targets[order], targets[order])
    rank = np.empty(len(targets), dtype=np.int64)  # within its class
    rank[order] = np.arange(len(targets)) - starts
    return torch.from_numpy(rank % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1).to(labels.device)


def _choose_l2(
    features: Tensor, labels: Tensor, held_out: Tensor, num_classes: int, max_iterations: int, weights: Tensor | None
) -> tuple[float, float]:
    """The penalty with the lowest cross-entropy on the held-out samples, if any, at its best scale; and that scale."""
    if not held_out.any():
        return L2_GRID[len(L2_GRID) // 2], 1.0
    fitted, judged = (features[~held_out], labels[~held_out]), (features[held_out], labels[held_out])
    # As if one more sample were wrong (Platt 1999): if all are right, the best scale would be infinite.
    smoothing = 1 / (len(judged[1]) + 2)
    params, best = None, (float("inf"), L2_GRID[0], 1.0)
    with Progress("probe: choosing l2", len(L2_GRID)) as progress:
        for l2 in L2_GRID:  # from the strongest, each started from the previous solution
            params = _minimize(*fitted, num_classes, l2, max_iterations, GRID_TOLERANCE, params, class_weights=weights)
            scale, loss = _best_scale(_logits(params, judged[0]), judged[1], smoothing, weights)
            if loss > best[0]:
                break
            best = (loss, l2, scale)
            progress.advance()
    return best[1], best[2]


def _best_scale(logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> tuple[float, float]:
    """The scale of the logits (1 / temperature) with the lowest cross-entropy for smoothed labels, and that loss."""

    def loss(log_scale: float) -> float:
        scaled = logits * float(np.exp(log_scale))
        if weights is None:
            return float(F.cross_entropy(scaled, labels, label_smoothing=smoothing))
        losses = F.cross_entropy(scaled, labels, label_smoothing=smoothing, reduction="none")
        return float((losses * weights[labels]).mean())

    result = minimize_scalar(loss, bounds=(-3, 5), method="bounded")
    return float(np.exp(result.x)), float(result.fun)


def make_objective(
    features: Tensor, labels: Tensor, num_classes: int, l2: float, class_weights: Tensor | None = None
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """A function from flat parameters to the penalised mean cross-entropy, weighted by class, and its gradient."""
    width = features.shape[1]

    @torch.inference_mode()
    def objective(params: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = (tensor.float().to(features.device) for tensor in _unflatten(params, width))
        loss, weight_grad, bias_grad = 0.0, torch.zeros_like(weight), torch.zeros_like(bias)
        for rows, targets in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
            log_probs = F.log_softmax(torch.addmm(bias, rows, weight), 1)
            of_labels = log_probs.gather(1, targets[:, None])
            residuals = log_probs.exp_().scatter_add_(1, targets[:, None], log_probs.new_full((len(targets), 1), -1.0))
            if class_weights is not None:
                of_labels *= class_weights[targets, None]
                residuals *= class_weights[targets, None]
            loss -= float(of_labels.sum())
            weight_grad.addmm_(rows.T, residuals)
            bias_grad += residuals.sum(0)
        gradient = torch.cat([weight_grad.flatten(), bias_grad]).cpu().double().numpy() / len(features)
        weights = params[: width * num_classes]
        gradient[: width * num_classes] += l2 * weights
        return loss / len(features) + l2 / 2 * float(weights @ weights), gradient

    return objective


def _minimize(
    features: Tensor, labels: Tensor, num_classes: int, l2: float, max_iterations: int, tolerance: float,
    start: np.ndarray | None = None, report: Callable[[int, np.ndarray], None] = lambda *_: None,
    class_weights: Tensor | None = None,
) -> np.ndarray:  # fmt: skip
    """The flat parameters that minimise the penalised mean cross-entropy."""
    iterations = itertools.count(1)
    start = np.zeros((features.shape[1] + 1) * num_classes) if start is None else start
    solution: np.ndarray = minimize(
        make_objective(features, labels, num_classes, l2, class_weights), start, jac=True, method="L-BFGS-B",
        callback=lambda params: report(next(iterations), params),
        options={"maxiter": max_iterations, "ftol": tolerance, "gtol": 1e-6},
    ).x  # fmt: skip
    return solution


def _unflatten(params: np.ndarray, width: int) -> tuple[Tensor, Tensor]:
    """Weight, F x C, and bias, C, float64."""
    tensor = torch.from_numpy(params).view(width + 1, -1)
    return tensor[:-1], tensor[-1]


@torch.inference_mode()
def _logits(params: np.ndarray, features: Tensor) -> Tensor:
    weight, bias = (tensor.float().to(features.device) for tensor in _unflatten(params, features.shape[1]))
    return torch.addmm(bias, features, weight)


def _evaluate(params: np.ndarray, features: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    loss, num_correct = 0.0, 0
    for rows, targets in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
        logits = _logits(params, rows)
        loss += float(F.cross_entropy(logits, targets, reduction="sum"))
        num_correct += int((logits.argmax(1) == targets).sum())
    return loss / len(labels), num_correct / len(labels)
