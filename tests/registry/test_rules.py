"""The gate's rules promote a challenger that is no better, or worse, at most at the rate that they promise, at any number of photos."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from plumage.config import Register
from plumage.evaluation.compare import Comparison, binomial_p, fewest_wins, mcnemar, score_interval
from plumage.registry.comparisons import COMPARED_ON, count_comparisons, in_words
from plumage.registry.rules import (
    MAX_TAKEN,
    NewClasses,
    judge_same_classes,
    judge_shared_classes,
    tolerated_loss,
)

TRIALS = 2000
SETTINGS = Register()
ALPHA = SETTINGS.alpha
AT_MOST = float(binom.ppf(0.999, TRIALS, ALPHA)) / TRIALS
"""The highest rate compatible with an error rate of `alpha` (exceeded by chance once in 1,000)."""


@cache
def compared(better: int, worse: int, num_samples: int, champion: float = 0.8) -> Comparison:
    difference = (better - worse) / num_samples
    score = score_interval(better, worse, num_samples, 1 - 2 * ALPHA)
    p = mcnemar(better, worse)
    return Comparison(
        num_samples, champion + difference, champion, difference, better, worse, p, 1 - 2 * ALPHA, score, score
    )


def draw(rng: np.random.Generator, num_samples: int, difference: float, discordant: float) -> list[list[int]]:
    """Counts of photos that only the challenger and only the champion gets right, in TRIALS comparisons."""
    discordant = max(discordant, abs(difference))
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    return rng.multinomial(num_samples, shares, size=TRIALS)[:, :2].tolist()


@pytest.mark.parametrize("num_samples", [20, 100, 1000])
@pytest.mark.parametrize("discordant", [0.05, 0.2])
def test_superior_promotes_equal_models_at_most_at_the_rate_alpha(num_samples: int, discordant: float) -> None:
    drawn = draw(np.random.default_rng(0), num_samples, 0, discordant)
    passed = [judge_same_classes(compared(*counts, num_samples), SETTINGS).passed for counts in drawn]
    assert np.mean(passed) <= AT_MOST


@pytest.mark.parametrize(("num_samples", "margin"), [(20, 0.01), (20, 0.2), (100, 0.05), (1000, 0.02)])
def test_not_inferior_promotes_models_worse_by_the_margin_at_most_at_the_rate_alpha(
    num_samples: int, margin: float
) -> None:
    settings = Register(gate="not_inferior", margin=margin)
    drawn = draw(np.random.default_rng(0), num_samples, -margin, 1.5 * margin)
    passed = [judge_same_classes(compared(*counts, num_samples), settings).passed for counts in drawn]
    assert np.mean(passed) <= AT_MOST


def adding_a_class(rng: np.random.Generator, test_photos: int, loss: float, recall: float, taken: float) -> float:
    """The rate at which a challenger that adds one class to five is promoted.

    On the shared classes it is worse by `loss`; it recognises the new class with this `recall`, and calls the share `taken` of
    the other photos by it.
    """
    of_new = test_photos // 6
    of_shared, passed = test_photos - of_new, 0
    right, called = rng.binomial(of_new, recall, TRIALS), rng.binomial(of_shared, taken, TRIALS)
    for (better, worse), hits, wrong in zip(draw(rng, of_shared, -loss, 0.08), right, called, strict=True):
        new = NewClasses(6, of_new, int(hits), of_shared, int(wrong))
        passed += judge_shared_classes(compared(better, worse, of_shared), new, SETTINGS).passed
    return passed / TRIALS


@pytest.mark.parametrize("test_photos", [20, 24, 100, 1000])
def test_a_challenger_with_a_new_class_that_is_worse_in_any_respect_is_promoted_at_most_at_the_rate_alpha(
    test_photos: int,
) -> None:
    rng = np.random.default_rng(0)
    loss = tolerated_loss(test_photos - test_photos // 6, SETTINGS.margin)
    assert adding_a_class(rng, test_photos, loss, recall=1, taken=0) <= AT_MOST
    assert adding_a_class(rng, test_photos, 0, recall=SETTINGS.min_new_recall, taken=0) <= AT_MOST
    assert adding_a_class(rng, test_photos, 0, recall=1, taken=MAX_TAKEN) <= AT_MOST


def test_a_good_challenger_with_a_new_class_passes_with_24_test_photos_more_often_than_not() -> None:
    assert adding_a_class(np.random.default_rng(0), 24, 0, recall=0.9, taken=0.02) > 0.6
    assert adding_a_class(np.random.default_rng(0), 1000, 0, recall=0.9, taken=0.02) > 0.9


def test_a_model_that_calls_everything_by_the_new_class_is_not_promoted_however_many_photos_are_of_it() -> None:
    all_new = NewClasses(num_classes=6, photos=500, right=500, shared_photos=20, taken=20)
    verdict = judge_shared_classes(compared(0, 0, 20), all_new, SETTINGS)
    assert not verdict.passed and "20 of 20 photos of shared classes called a new one" in verdict.reason


def test_the_floor_is_that_of_guessing_at_least_and_says_what_it_takes() -> None:
    def reason(right: int, photos: int, num_classes: int = 6) -> str:
        new = NewClasses(num_classes, photos, right, shared_photos=20, taken=0)
        return judge_shared_classes(compared(0, 0, 20), new, SETTINGS).reason

    assert reason(4, 4).endswith(
        "4 of 4 photos of new classes right, recall over 20%, 0 of 20 photos of shared classes called a new one"
    )
    assert "2 of 4 photos of new classes right, recall not shown to be over 20% (that takes 3)" in reason(2, 4)
    assert "3 of 4 photos of new classes right, recall not shown to be over 33.3% (that takes 4)" in reason(3, 4, 3)
    assert (
        "1 of 1 photos of new classes right, recall not shown to be over 20% (that takes 2 photos or more)"
        in reason(1, 1)
    )


def test_the_loss_tolerated_on_shared_classes_shrinks_to_the_margin() -> None:
    assert [round(tolerated_loss(photos, 0.01), 3) for photos in (24, 100, 1000, 100_000)] == [0.204, 0.1, 0.032, 0.01]


def test_the_fewest_wins_are_those_at_which_mcnemar_passes() -> None:
    for alpha in (0.25, 0.1, 0.05, 0.01):
        wins = fewest_wins(alpha)
        assert mcnemar(wins, 0) <= alpha < mcnemar(wins - 1, 0)
    assert binomial_p(3, 4, 0.2) == pytest.approx(4 * 0.2**3 * 0.8 + 0.2**4)  # by hand


def test_several_comparisons_on_the_same_photos_are_counted_and_their_level_is_said() -> None:
    versions = [SimpleNamespace(version=str(n), tags={COMPARED_ON: "x" if n % 2 else "y"}) for n in range(1, 8)]
    found = count_comparisons(versions, 7, "x", 0.05)
    assert found["count"] == 4 and found["chance_of_a_false_promotion"] == pytest.approx(1 - 0.95**4, abs=1e-4)
    assert 1 - (1 - found["alpha_for_all"]) ** 4 == pytest.approx(0.05, abs=2e-3)
    assert in_words(found, 0.05) == (
        "comparison 4 on the same test photos: at alpha 0.05 each, the chance that one of 4 equal challengers is promoted "
        "is up to 19% (alpha 0.013 would keep it at 5%)"
    )
    assert in_words(count_comparisons([], 1, "x", 0.05), 0.05) == ""


def test_equal_challengers_on_the_same_photos_are_promoted_at_most_as_often_as_is_said() -> None:
    """All are compared with the same champion, so the comparisons depend on each other."""
    rng, trials, challengers, said = np.random.default_rng(0), 400, 8, 1 - (1 - ALPHA) ** 8
    promoted = 0
    for _ in range(trials):
        ease = rng.beta(4, 1, 100)
        champion = rng.random(100) < ease
        each = rng.random((challengers, 100)) < ease
        wins, losses = (each & ~champion).sum(axis=1), (champion & ~each).sum(axis=1)
        promoted += any(mcnemar(int(b), int(w)) <= ALPHA for b, w in zip(wins, losses, strict=True))
    assert promoted / trials <= float(binom.ppf(0.999, trials, said)) / trials
