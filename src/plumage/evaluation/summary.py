"""The `test` part of `reports/metrics.json`."""

from typing import Any

from plumage.evaluation.bootstrap import bootstrap
from plumage.evaluation.calibration import adaptive_ece, brier_score
from plumage.evaluation.metrics import Floats, Ints, losses, reliability, top_k


def summary(
    probabilities: Floats, labels: Ints, *, bins: int = 15, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Every figure, to 6 decimals, those of `bootstrap` with their 95% intervals.

    An interval is {"low", "high"}, not a list, since DVC leaves lists out of its metrics.
    """
    predicted, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    in_top5 = (top_k(probabilities, 5) == labels[:, None]).any(axis=1)
    figures = bootstrap(
        labels, predicted, in_top5, losses(probabilities, labels), num_classes, resamples=resamples, seed=seed
    )
    result: dict[str, Any] = {}
    for name, (value, low, high) in figures.items():
        result[name] = round(value, 6)
        result[f"{name}_ci95"] = {"low": round(low, 6), "high": round(high, 6)}
    return result | calibration(probabilities, labels, bins) | {"n": len(labels)}


def calibration(probabilities: Floats, labels: Ints, bins: int = 15) -> dict[str, float]:
    """How far the probabilities are to be believed: what a temperature changes."""
    figures = {
        "loss": float(losses(probabilities, labels).mean()),
        "ece": reliability(probabilities, labels, bins).ece,
        "adaptive_ece": adaptive_ece(probabilities, labels, bins),
        "brier": brier_score(probabilities, labels),
    }
    return {name: round(value, 6) for name, value in figures.items()}
