"""95% confidence intervals of shares and means that keep their coverage with few photos, and with near-duplicates among them.

A bootstrap can't tell what the photos don't show: 24 correct of 24 always resample to 24 of 24. Shares have exact intervals instead. A mean
of losses has a Bayesian bootstrap with one more photo, as bad as an error could be; for shares, that is the exact interval.
Photos of one group (near-duplicates) are taken for equally right or wrong, so that a group counts as one photo.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from plumage.evaluation.sample import Floats, Ints

TAIL = 0.025
DECIMALS = 6  # in metrics.json
Interval = tuple[NDArray[np.float64], NDArray[np.float64]]  # low and high ends


def exact(successes: NDArray[Any], trials: NDArray[Any]) -> Interval:
    """(low, high) of each share successes / trials (Clopper & Pearson 1934); 0 to 1 where `trials` is 0.

    At least 95 of 100 such intervals contain the true share, whatever it is and however few the trials. Wilson's interval does so on
    average only: of 10 photos at a true accuracy of 0.99, 90 of 100. Effective numbers may be fractions (Korn & Graubard 1998).
    """
    right, wrong = np.asarray(successes, np.float64), np.asarray(trials, np.float64) - np.asarray(successes, np.float64)
    none_right, none_wrong = right < 1e-9, wrong < 1e-9
    low = betaincinv(np.where(none_right, 1, right), wrong.clip(0) + 1, TAIL)
    high = betaincinv(right + 1, np.where(none_wrong, 1, wrong), 1 - TAIL)
    return np.where(none_right, 0, low), np.where(none_wrong, 1, high)


def effective_trials(owner: Ints, groups: Ints, num_owners: int) -> NDArray[np.float64]:
    """How many independent photos those of each owner (a class, say) are worth: n^2 / (sum of squared group sizes).

    `owner` and `groups` have one entry per photo. It is Kish's effective size (1965) if photos of a group are equally right or wrong.
    """
    pairs, sizes = np.unique(owner * (groups.max(initial=0) + 1) + groups, return_counts=True)
    owners = pairs // (groups.max(initial=0) + 1)
    squares = np.bincount(owners, weights=sizes.astype(np.float64) ** 2, minlength=num_owners)
    count = np.bincount(owner, minlength=num_owners)
    return count**2 / np.maximum(squares, 1)


def share_interval(hits: NDArray[np.bool_], groups: Ints) -> tuple[float, float]:
    """(low, high) of the share of true `hits` among N photos, whose `groups` are numbers; 0 to 1 without photos."""
    if not len(hits):
        return 0.0, 1.0
    equal = np.full(len(hits), 1 / len(hits))
    return weighted_interval(float(hits.mean()), equal * (hits - hits.mean()), equal, groups)


def weighted_interval(score: float, influence: Floats, weights: Floats, groups: Ints) -> tuple[float, float]:
    """(low, high) of a score from 0 to 1 that is like a share: `exact` with an effective number of photos (Korn & Graubard 1998).

    `influence` is each photo's influence on the score (Jaeckel 1972, the infinitesimal jackknife), `weights` its weight in it; these
    sum to 1. Where the photos are all alike, the influences are 0; then the weights alone give the effective number.
    """
    score = min(max(score, 0.0), 1.0)  # a sum of weights can be just over 1
    number = 1 / (np.bincount(groups, weights=weights) ** 2).sum()
    variance = float((np.bincount(groups, weights=influence) ** 2).sum())
    if variance > 1e-18:  # not only rounding
        number = min(number, score * (1 - score) / variance)
    low, high = exact(np.array(score * number), np.array(number))
    return float(low), float(high)


def mean_interval(values: Floats, groups: Ints, worst: float, *, resamples: int, seed: int) -> tuple[float, float]:
    """(low, high) of the mean of N >= 1 values from 0 up; `worst` is the value that one unseen photo could have.

    A Bayesian bootstrap over groups (Rubin 1981) with one more group, of value 0 for the low end and `worst` for the high end (Gaffke 2005;
    Learned-Miller & Thomas 2019, arXiv 1905.06208). For values of 0 and 1 it equals `exact`.
    """
    rng = np.random.default_rng(seed)
    sums, sizes = np.bincount(groups, weights=values), np.bincount(groups).astype(np.float64)
    size = (sizes**2).sum() / sizes.sum()  # of the group that a photo is in, on average
    low, high = np.empty(resamples), np.empty(resamples)
    for start in range(0, resamples, 64):  # a few resamples at a time: little memory for any number of photos
        rows = slice(start, min(start + 64, resamples))
        drawn = rng.standard_exponential((rows.stop - start, len(sums)))
        extra = size * rng.standard_exponential(rows.stop - start)
        total, weight = drawn @ sums, drawn @ sizes + extra
        low[rows], high[rows] = total / weight, (total + worst * extra) / weight
    return float(np.quantile(low, TAIL)), float(np.quantile(high, 1 - TAIL))


def f1_interval(true_positives: NDArray[Any], errors: NDArray[Any]) -> Interval:
    """(low, high) of a class's F1; `errors` are its false positives and false negatives together.

    F1 is 2 s / (1 + s) of the share s = true_positives / (true_positives + errors) and grows with it (Hand, Christen & Kirielle 2021,
    "F*"), so its ends follow from the share's interval.
    """
    low, high = (2 * end / (1 + end) for end in exact(true_positives, true_positives + errors))
    return low, high


def written(interval: tuple[float, float]) -> dict[str, float]:
    """An interval in metrics.json: {"low", "high"} rather than a list, because DVC leaves lists out of its metrics."""
    low, high = interval
    return {"low": round(low, DECIMALS), "high": round(high, DECIMALS)}
