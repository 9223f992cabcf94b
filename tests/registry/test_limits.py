"""Floors and ceilings: a challenger that misses one is not promoted, and the decision says which."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from registering import TEST, Bench, hits

from plumage.config import Register
from plumage.registry import limits
from plumage.registry.decision import details
from plumage.registry.limits import LIMITS


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_min_and_max_key_of_register_is_a_limit() -> None:
    keys = {key for key in Register.model_fields if key.startswith(("min_", "max_"))}
    assert keys - {"min_new_recall"} == LIMITS.keys()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_accuracy": 0.9}, "min_accuracy is 90%, this is 80%"),
        ({"min_class_recall": 0.8}, "min_class_recall is 80%, this is 40%"),
        ({"max_ece": 0.04}, "max_ece is 0.04, this is 0.05"),
        ({"max_size_mb": 1.0}, "max_size_mb is 1, this is 13."),
        ({"max_latency_ms": 1e-3}, "max_latency_ms is 0.001, this is "),
    ],
)
def test_a_limit_holds_back_a_first_and_a_better_challenger_alike(bench: Bench, settings: Any, message: str) -> None:
    correct = np.array([bench.dataset.labels[row] != "wren" or row % 5 < 2 for row in TEST])
    assert correct.mean() == 0.8
    for champion in (None, hits(20)):
        decision = bench.decide(correct, champion, **settings)
        (limit,) = decision["limits"]
        assert not decision["promoted"] and message in decision["reason"] and not limit["met"]
        assert limit["name"] in settings and any(line.endswith("not met") for line in details(decision))
        generous = {name: 0.1 if name.startswith("min") else 1e4 for name in settings if name != "max_ece"}
        decision = bench.decide(correct, champion, **(generous or {"max_ece": 0.5}))
        assert decision["promoted"] and decision["limits"][0]["met"]


def test_the_worst_class_is_named_and_every_reason_is_given(bench: Bench) -> None:
    correct = np.array([bench.dataset.labels[row] != "owl" for row in TEST])
    decision = bench.decide(correct, correct, min_class_recall=0.5, min_accuracy=0.9)
    assert [(limit["name"], limit.get("label")) for limit in decision["limits"]] == [
        ("min_accuracy", None),
        ("min_class_recall", "owl"),
    ]
    assert [part.split()[0] for part in decision["reason"].split("; ")] == [
        "min_accuracy",
        "min_class_recall",
        "67%",
    ]


class SlowAtFirst:
    """A predictor with its own clock: 900 ms for each of the first few photos, then 20 ms, sometimes 500."""

    def __init__(self) -> None:
        self.now, self.asked = 0.0, list[Sequence[bytes]]()

    def probabilities(self, photos: Sequence[bytes]) -> None:
        self.asked.append(photos)
        warm = len(self.asked) > limits.WARM_UP
        self.now += 0.9 if not warm else 0.5 if len(self.asked) % 5 == 0 else 0.02


def test_a_cold_start_and_outliers_do_not_count_and_photos_come_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = SlowAtFirst()
    monkeypatch.setattr(time, "perf_counter", lambda: predictor.now)
    assert limits.latency_ms(predictor, [b"one", b"two"]) == pytest.approx(20)  # type: ignore[arg-type]
    assert len(predictor.asked) == limits.WARM_UP + limits.REPEATS
    assert predictor.asked[:3] == [[b"one"], [b"two"], [b"one"]]
