"""Intervals of proportions of few photos, where a bootstrap has none: 5 right of 5 resample to 5 of 5."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054
"""The 0.975 quantile of the normal distribution."""
Range = tuple[NDArray[np.float64], NDArray[np.float64]]


def wilson(hits: NDArray[np.integer[Any]], of: NDArray[np.integer[Any]]) -> Range:
    """95% (low, high) of each proportion `hits` / `of` (Wilson 1927, the score interval); 0 to 1 where `of` is 0."""
    count = np.maximum(of, 1)
    share = hits / count
    middle = share + Z**2 / (2 * count)
    reach = Z * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    low, high = ((middle + sign * reach) / (1 + Z**2 / count) for sign in (-1, 1))
    none = of == 0
    return np.where(none, 0, np.clip(low, 0, 1)), np.where(none, 1, np.clip(high, 0, 1))


def f1_interval(right: NDArray[np.integer[Any]], wrong: NDArray[np.integer[Any]]) -> Range:
    """95% (low, high) of the F1 of a class with `right` true positives and `wrong` false ones, positive or negative.

    F1 is 2 s / (1 + s) of the share s = right / (right + wrong), which grows with it (Hand, Christen & Kirielle 2021, "F*"): the ends
    are those of that share's interval.
    """
    low, high = (2 * end / (1 + end) for end in wilson(right, right + wrong))
    return low, high
