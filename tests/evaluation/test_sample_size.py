"""The numbers of photos do what they promise."""

import numpy as np
import pytest

from plumage.evaluation.compare import mcnemar
from plumage.evaluation.intervals import exact
from plumage.evaluation.sample_size import ALPHA, POWER, photos_for_difference, photos_for_interval


@pytest.mark.parametrize(("share", "reach"), [(0.5, 0.05), (0.95, 0.02), (1.0, 0.05)])
def test_the_interval_of_so_many_photos_is_as_narrow_as_asked_and_not_with_one_fewer(
    share: float, reach: float
) -> None:
    count = photos_for_interval(share, reach)
    widths = [np.subtract(*exact(np.array([share * n]), np.array([n]))[::-1])[0] for n in (count - 1, count)]
    assert widths[0] > 2 * reach >= widths[1]


def test_so_many_photos_show_the_difference_as_often_as_promised() -> None:
    rng, accuracy, difference = np.random.default_rng(0), 0.85, 0.05
    count = photos_for_difference(accuracy, difference)
    shares = [(accuracy + difference) * (1 - accuracy), accuracy * (1 - accuracy - difference)]
    better, worse, _ = rng.multinomial(count, [*shares, 1 - sum(shares)], size=1000).T
    seen = np.mean([mcnemar(b, w) <= ALPHA for b, w in zip(better.tolist(), worse.tolist(), strict=True)])
    assert POWER - 0.05 < seen < POWER + 0.05
