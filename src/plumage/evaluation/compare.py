"""Two models on the same photos: is one better, or not worse by more than a margin?

Only the discordant photos tell, those that one model alone gets right: `better` is how many only the first does, `worse`
how many only the second does, of `photos`. The difference of the accuracies is (better - worse) / photos.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm

RESAMPLES = 10_000


@dataclass(frozen=True)
class Comparison:
    """A challenger against a champion on `photos` photos."""

    photos: int
    accuracy: float
    champion_accuracy: float
    difference: float
    better: int
    worse: int
    p_value: float
    """Of `mcnemar`."""
    confidence: float
    """Of both intervals of the difference: 1 - 2 * level, so that either end alone errs at the rate `level`."""
    score: tuple[float, float]
    """`score_interval`."""
    bootstrap: tuple[float, float]
    """`bootstrap_interval`."""


def compare(challenger: NDArray[np.bool_], champion: NDArray[np.bool_], level: float, seed: int = 0) -> Comparison:
    """Compare which of N photos (one or more) each of two models gets right; `level` is the error rate of a one-sided test."""
    photos = len(challenger)
    better, worse = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    confidence = 1 - 2 * level
    return Comparison(
        photos=photos,
        accuracy=float(challenger.mean()),
        champion_accuracy=float(champion.mean()),
        difference=(better - worse) / photos,
        better=better,
        worse=worse,
        p_value=mcnemar(better, worse),
        confidence=confidence,
        score=score_interval(better, worse, photos, confidence),
        bootstrap=bootstrap_interval(better, worse, photos, confidence, seed=seed),
    )


def mcnemar(better: int, worse: int) -> float:
    """The one-sided p-value of the exact McNemar test (McNemar 1947; binomial form) that the first model is better.

    Were both equally good, each discordant photo would be a fair coin: P(Binomial(better + worse, 1/2) >= better). A rule
    that acts on p <= level errs at most at that rate, with any number of photos.
    """
    if better + worse == 0:
        return 1.0
    return float(binomtest(better, better + worse, 0.5, alternative="greater").pvalue)


def score_interval(better: int, worse: int, photos: int, confidence: float) -> tuple[float, float]:
    """The score interval of the difference of two paired accuracies (Tango 1998, Statistics in Medicine 17, 891-908).

    It holds the differences that a score test does not reject. With few discordant photos, where a bootstrap of them has
    hardly any width (none without a single one), it is as wide as the number of photos asks for.
    """
    z = float(norm.ppf((1 + confidence) / 2))

    def low(better: int, worse: int) -> float:
        def beyond(difference: float) -> float:
            return _score(better, worse, photos, difference) - z

        top = (better - worse) / photos
        bottom = -1 + 1e-12
        return float(brentq(beyond, bottom, top, xtol=1e-12)) if top > bottom and beyond(bottom) > 0 else -1.0

    return low(better, worse), -low(worse, better)


def _score(better: int, worse: int, photos: int, difference: float) -> float:
    """Tango's equation 9: how many standard errors the observed difference lies above `difference`, were that the true one."""
    b = (2 * photos - better + worse) * difference - better - worse
    c = -worse * difference * (1 - difference)
    share_worse = (np.sqrt(b * b - 8 * photos * c) - b) / (4 * photos)  # the maximum likelihood, given the difference
    variance = photos * (2 * share_worse + difference * (1 - difference))
    above = better - worse - photos * difference
    if above == 0:
        return 0.0
    return float(above / np.sqrt(variance)) if variance > 0 else float(np.copysign(np.inf, above))


def bootstrap_interval(
    better: int, worse: int, photos: int, confidence: float, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of the difference over draws of whole photos, both models' answers together.

    A draw of N photos of N with replacement changes only how many of them are `better` and `worse`: multinomial counts.
    """
    shares: NDArray[np.floating[Any]] = np.array([better, worse, photos - better - worse]) / photos
    draws = np.random.default_rng(seed).multinomial(photos, shares, size=resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / photos, [tail, 1 - tail])
    return float(low), float(high)
