"""Confidence intervals of proportions. With few photos a bootstrap has no width: 5 correct of 5 always resample to 5 of 5."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054  # the 0.975 quantile of the normal distribution
Interval = tuple[NDArray[np.float64], NDArray[np.float64]]  # low and high ends


def wilson(successes: NDArray[np.integer[Any]], trials: NDArray[np.integer[Any]]) -> Interval:
    """95% (low, high) of each proportion successes / trials (Wilson 1927, the score interval); 0 to 1 where `trials` is 0."""
    count = np.maximum(trials, 1)
    share = successes / count
    middle = share + Z**2 / (2 * count)
    reach = Z * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    low, high = ((middle + sign * reach) / (1 + Z**2 / count) for sign in (-1, 1))
    unknown = trials == 0
    return np.where(unknown, 0, np.clip(low, 0, 1)), np.where(unknown, 1, np.clip(high, 0, 1))


def f1_interval(true_positives: NDArray[np.integer[Any]], errors: NDArray[np.integer[Any]]) -> Interval:
    """95% (low, high) of a class's F1; `errors` are its false positives and false negatives together.

    F1 is 2 s / (1 + s) of the share s = true_positives / (true_positives + errors) and grows with it (Hand, Christen & Kirielle 2021,
    "F*"), so its ends follow from the share's interval.
    """
    low, high = (2 * end / (1 + end) for end in wilson(true_positives, true_positives + errors))
    return low, high
