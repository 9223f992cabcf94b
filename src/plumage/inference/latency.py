"""Measure how long a model takes per photo."""

import statistics
import time
from collections.abc import Sequence

from plumage.inference.predictor import Predictor

WARM_UP = 5
REPEATS = 30


def latency_ms(predictor: Predictor, photos: Sequence[bytes]) -> float:
    """Milliseconds from the bytes of one photo file to its probabilities: the median of REPEATS, one photo at a time.

    `photos` are used in turn, after WARM_UP uncounted ones. The time depends on this machine and its present load, the
    predictor's device and torch's number of threads. It includes no server and no network.
    """
    times = []
    for turn in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        predictor.probabilities([photos[turn % len(photos)]])
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[WARM_UP:])
