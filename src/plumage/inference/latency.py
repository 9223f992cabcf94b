"""How long a model takes for a photo."""

import statistics
import time
from collections.abc import Sequence

from plumage.inference.predictor import Predictor

WARM_UP = 5
REPEATS = 30


def latency_ms(predictor: Predictor, photos: Sequence[bytes]) -> float:
    """Milliseconds from the bytes of one photo file to its probabilities: the median over REPEATS photos, one at a time.

    `photos` are taken in turn; the first WARM_UP are not counted. It is the time of this machine as busy as it is now,
    with the predictor's device and torch's threads; nothing of a server or a network is in it.
    """
    times = []
    for turn in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        predictor.probabilities([photos[turn % len(photos)]])
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[WARM_UP:])
