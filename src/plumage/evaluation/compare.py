"""Compare two models on the same photos: is one better, or not worse by more than a margin?

Only discordant photos count, those that one model alone classifies correctly: `better` photos only the first model does, `worse` photos
only the second. The accuracies differ by (better - worse) / num_samples.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, ndtri

RESAMPLES = 10_000


@dataclass(frozen=True)
class Comparison:
    """A challenger against a champion on the same photos."""

    num_samples: int
    accuracy: float
    champion_accuracy: float
    difference: float
    better: int
    worse: int
    p_value: float  # result of `mcnemar`
    confidence: float  # of both intervals: 1 - 2 * alpha, so that each end alone has the error rate `alpha`
    score: tuple[float, float]  # the difference's `score_interval`
    bootstrap: tuple[float, float]  # the difference's `bootstrap_interval`


def compare(challenger: NDArray[np.bool_], champion: NDArray[np.bool_], alpha: float, seed: int = 0) -> Comparison:
    """Compare two models by which of the same N >= 1 photos each classifies correctly; `alpha` is a one-sided test's error rate."""
    num_samples = len(challenger)
    better, worse = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    confidence = 1 - 2 * alpha
    return Comparison(
        num_samples=num_samples,
        accuracy=float(challenger.mean()),
        champion_accuracy=float(champion.mean()),
        difference=(better - worse) / num_samples,
        better=better,
        worse=worse,
        p_value=mcnemar(better, worse),
        confidence=confidence,
        score=score_interval(better, worse, num_samples, confidence),
        bootstrap=bootstrap_interval(better, worse, num_samples, confidence, seed=seed),
    )


def mcnemar(better: int, worse: int) -> float:
    """One-sided p-value of the exact McNemar test (McNemar 1947, binomial form): is the first model better?

    If both are equally good, each discordant photo is a fair coin toss: p = P(Binomial(better + worse, 1/2) >= better). A rule that acts
    on p <= alpha has an error rate of at most alpha, with any number of photos.
    """
    if better + worse == 0:
        return 1.0
    return binomial_p(better, better + worse, 0.5)


def fewest_wins(alpha: float) -> int:
    """Photos that only the first model must get right, and none only the second, for `mcnemar` to be at most `alpha`."""
    return math.ceil(math.log2(1 / alpha) - 1e-9)


def binomial_p(successes: int, trials: int, share: float) -> float:
    """P(Binomial(trials, share) >= successes): one-sided p-value of the exact test that the true share exceeds `share`."""
    # The same bits as scipy.stats.binom.sf in a fortieth of its time.
    return float(betainc(successes, trials - successes + 1, share)) if successes else 1.0


def score_interval(better: int, worse: int, num_samples: int, confidence: float) -> tuple[float, float]:
    """Score interval of the difference of two paired accuracies (Tango 1998, Statistics in Medicine 17, 891-908).

    It contains the differences that a score test does not reject. With few discordant photos a bootstrap interval has almost no width
    (none at all without any); this one is then as wide as the number of photos requires.
    """
    z = float(ndtri((1 + confidence) / 2))

    def low(better: int, worse: int) -> float:
        def excess(difference: float) -> float:
            return _score(better, worse, num_samples, difference) - z

        top = (better - worse) / num_samples
        bottom = -1 + 1e-12
        return float(brentq(excess, bottom, top, xtol=1e-12)) if top > bottom and excess(bottom) > 0 else -1.0

    return low(better, worse), -low(worse, better)


def _score(better: int, worse: int, num_samples: int, difference: float) -> float:
    """Tango's equation 9: standard errors by which the observed difference exceeds `difference`, if that is the true one."""
    b = (2 * num_samples - better + worse) * difference - better - worse
    c = -worse * difference * (1 - difference)
    # Maximum likelihood, given the difference.
    share_worse = (math.sqrt(max(0.0, b * b - 8 * num_samples * c)) - b) / (4 * num_samples)
    variance = num_samples * (2 * share_worse + difference * (1 - difference))
    above = better - worse - num_samples * difference
    if above == 0:
        return 0.0
    return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above)


def bootstrap_interval(
    better: int, worse: int, num_samples: int, confidence: float, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the difference; a resampled photo keeps both models' predictions.

    A resample of N photos changes only the counts `better` and `worse`, so it is a multinomial draw.
    """
    shares: NDArray[np.floating[Any]] = np.array([better, worse, num_samples - better - worse]) / num_samples
    draws = np.random.default_rng(seed).multinomial(num_samples, shares, size=resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / num_samples, [tail, 1 - tail])
    return float(low), float(high)
