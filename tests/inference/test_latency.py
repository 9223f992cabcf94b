"""Latency is measured one photo at a time, on a warm model."""

import time
from collections.abc import Sequence

import pytest

from plumage.inference import latency
from plumage.inference.latency import latency_ms


class SlowAtFirst:
    """A predictor with its own clock: 900 ms for each of the first few photos, then 20 ms, sometimes 500."""

    def __init__(self) -> None:
        self.now, self.asked = 0.0, list[Sequence[bytes]]()

    def probabilities(self, photos: Sequence[bytes]) -> None:
        self.asked.append(photos)
        warm = len(self.asked) > latency.WARM_UP
        self.now += 0.9 if not warm else 0.5 if len(self.asked) % 5 == 0 else 0.02


def test_a_cold_start_and_outliers_do_not_count_and_photos_come_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = SlowAtFirst()
    monkeypatch.setattr(time, "perf_counter", lambda: predictor.now)
    assert latency_ms(predictor, [b"one", b"two"]) == pytest.approx(20)  # type: ignore[arg-type]
    assert len(predictor.asked) == latency.WARM_UP + latency.REPEATS
    assert predictor.asked[:3] == [[b"one"], [b"two"], [b"one"]]
