"""How often the gate promotes: false promotions and right ones, by simulation (docs/registry.md has the result).

Run: python benchmarks/gate.py [--trials 2000]
"""

import argparse
from functools import cache

import numpy as np

from plumage.config import Register
from plumage.evaluation.compare import Comparison, mcnemar, score_interval
from plumage.registry.rules import (
    MAX_TAKEN,
    NewClasses,
    judge_same_classes,
    judge_shared_classes,
    tolerated_loss,
)

SIZES = (20, 100, 1000)
"""Test photos."""
DISCORDANT = (0.05, 0.1, 0.2)
"""Shares of photos that only one of two models gets right."""
CHALLENGERS = 10


@cache
def compared(better: int, worse: int, num_samples: int) -> Comparison:
    alpha = Register().alpha
    score = score_interval(better, worse, num_samples, 1 - 2 * alpha)
    difference, p = (better - worse) / num_samples, mcnemar(better, worse)
    return Comparison(num_samples, 0.8 + difference, 0.8, difference, better, worse, p, 1 - 2 * alpha, score, score)


def draw(
    rng: np.random.Generator, num_samples: int, difference: float, discordant: float, trials: int
) -> list[list[int]]:
    discordant = max(discordant, abs(difference))
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    return rng.multinomial(num_samples, shares, size=trials)[:, :2].tolist()


def same_classes(settings: Register, num_samples: int, difference: float, trials: int) -> str:
    """The lowest and highest rate of promotion over DISCORDANT."""
    rng, rates = np.random.default_rng(0), []
    for discordant in DISCORDANT:
        drawn = draw(rng, num_samples, difference, discordant, trials)
        rates.append(np.mean([judge_same_classes(compared(*counts, num_samples), settings).passed for counts in drawn]))
    return span(rates)


def one_more_class(num_samples: int, loss: float, recall: float, taken: float, trials: int) -> str:
    """As `same_classes`, for a challenger that adds one class to five; `loss` is a share of what is tolerated."""
    settings, rng, rates = Register(), np.random.default_rng(0), []
    of_new = num_samples // 6
    of_shared = num_samples - of_new
    worse_by = loss * tolerated_loss(of_shared, settings.margin)
    for discordant in DISCORDANT:
        right, called = rng.binomial(of_new, recall, trials), rng.binomial(of_shared, taken, trials)
        drawn = draw(rng, of_shared, -worse_by, discordant, trials)
        passed = 0
        for counts, hits, wrong in zip(drawn, right.tolist(), called.tolist(), strict=True):
            new = NewClasses(6, of_new, hits, of_shared, wrong)
            passed += judge_shared_classes(compared(*counts, of_shared), new, settings).passed
        rates.append(passed / trials)
    return span(rates)


def several(num_samples: int, trials: int) -> str:
    """The rate at which one or more of CHALLENGERS equal ones, all compared with one champion, are promoted."""
    rng, alpha, promoted = np.random.default_rng(0), Register().alpha, 0
    for _ in range(trials):
        ease = rng.beta(4, 1, num_samples)
        champion, each = rng.random(num_samples) < ease, rng.random((CHALLENGERS, num_samples)) < ease
        wins, losses = (each & ~champion).sum(axis=1), (champion & ~each).sum(axis=1)
        promoted += any(
            compared(b, w, num_samples).p_value <= alpha for b, w in zip(wins.tolist(), losses.tolist(), strict=True)
        )
    return f"{promoted / trials:.1%}"


def span(rates: list[float]) -> str:
    low, high = f"{100 * min(rates):.1f}", f"{100 * max(rates):.1f}"
    return f"{high}%" if low == high else f"{low} to {high}%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2_000)
    trials = parser.parse_args().trials
    superior, settings = Register(), [Register(gate="not_inferior", margin=margin) for margin in (0.02, 0.1)]
    rows = {
        "superior: an equal challenger": lambda n: same_classes(superior, n, 0, trials),
        "superior: one that is better by 0.05": lambda n: same_classes(superior, n, 0.05, trials),
        **{
            f"not_inferior, margin {found.margin:g}: one that is worse by it": lambda n, found=found: same_classes(
                found, n, -found.margin, trials
            )
            for found in settings
        },
        "one more class: worse by the tolerated loss": lambda n: one_more_class(n, 1, 1, 0, trials),
        "one more class: recall of the new one 0.2": lambda n: one_more_class(n, 0, 0.2, 0, trials),
        "one more class: predicts it for a quarter of the others": lambda n: one_more_class(n, 0, 1, MAX_TAKEN, trials),
        "one more class: worse by half the tolerated loss, recall 0.9, predicts it for 2% of the others": lambda n: (
            one_more_class(n, 0.5, 0.9, 0.02, trials)
        ),
        "one more class: as good, recall 0.9, predicts it for 2% of the others": lambda n: one_more_class(
            n, 0, 0.9, 0.02, trials
        ),
        f"superior: one of {CHALLENGERS} equal challengers on the same photos": lambda n: several(n, trials),
    }
    print("| promoted | " + " | ".join(f"{size:,} test photos" for size in SIZES) + " |")
    print("|---" * (len(SIZES) + 1) + "|")
    for name, rate in rows.items():
        print(f"| {name} | " + " | ".join(rate(size) for size in SIZES) + " |", flush=True)


if __name__ == "__main__":
    main()
