"""Groups of near-duplicates: photos of one group are not independent."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def group_numbers(near_duplicates: Sequence[Sequence[int]], count: int) -> NDArray[np.int64]:
    """One number per photo, the same for near-duplicates, which are given as rows of `count` photos."""
    numbers = np.arange(count)
    for group in near_duplicates:
        numbers[list(group)] = group[0]
    return numbers
