"""How many test photos a decision takes."""

import math

import numpy as np
from scipy.stats import norm

from plumage.evaluation.intervals import exact

POWER = 0.8
"""Chance of seeing a difference that is there."""
ALPHA = 0.05
"""Chance of seeing one that is not there, one-sided."""


def photos_for_interval(share: float, reach: float) -> int:
    """The fewest photos whose 95% interval (Clopper-Pearson) of an accuracy of `share` is at most 2 * `reach` wide."""

    def wide(count: int) -> bool:
        low, high = exact(np.array([share * count]), np.array([count]))
        return bool(high[0] - low[0] > 2 * reach)

    low, high = 0, 1
    while wide(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wide(middle) else (low, middle)
    return high


def photos_for_difference(accuracy: float, difference: float) -> int:
    """Photos on which McNemar's test at ALPHA sees, with POWER, that a second model's accuracy is higher by `difference`.

    Connor 1987 (Biometrics 43, 207-211), for two models whose mistakes are independent. Models that share mistakes disagree on fewer
    photos, and then fewer are enough.
    """
    other = accuracy + difference
    discordant = accuracy * (1 - other) + other * (1 - accuracy)
    level, chance = norm.ppf(1 - ALPHA), norm.ppf(POWER)
    root = level * math.sqrt(discordant) + chance * math.sqrt(max(discordant - difference**2, 0))
    return math.ceil((root / difference) ** 2)
