"""Groups of near-duplicates, as stage split found them: photos of one group are not independent."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def group_numbers(report: Mapping[str, Any], keys: Sequence[str]) -> NDArray[np.int64]:
    """One number per photo of `keys`, the same for near-duplicates; `report` is the content of reports/split.json."""
    number_of = {photo["key"]: number for number, group in enumerate(report["near_duplicates"]) for photo in group}
    first = len(report["near_duplicates"])
    return np.array([number_of.get(key, first + row) for row, key in enumerate(keys)], np.int64)
