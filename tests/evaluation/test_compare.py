"""Tests and intervals of paired accuracies have their nominal error rates; values agree with a library or by hand."""

import numpy as np
import pytest
from scipy.stats import binom, norm

from plumage.evaluation.compare import bootstrap_interval, compare, mcnemar, score_interval

ALPHA = 0.05
TRIALS = 4000


def pairs(rng: np.random.Generator, photos: int, difference: float, discordant: float, trials: int) -> np.ndarray:
    """trials x 2 counts of photos that only the first and only the second model classifies correctly."""
    shares = [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant]
    return rng.multinomial(photos, shares, size=trials)[:, :2]


def at_most(alpha: float, trials: int) -> float:
    """The highest rate in `trials` compatible with an error rate of `alpha` (exceeded by chance once in 1,000)."""
    return float(binom.ppf(0.999, trials, alpha)) / trials


def test_mcnemar_is_the_binomial_tail_by_hand() -> None:
    assert mcnemar(3, 1) == pytest.approx(5 / 16)  # 3 or 4 heads of 4 coins: (4 + 1) / 16
    assert mcnemar(5, 0) == pytest.approx(1 / 32)
    assert mcnemar(0, 5) == 1
    assert mcnemar(0, 0) == 1
    assert mcnemar(7, 7) > 0.5
    assert mcnemar(40, 20) == pytest.approx(binom.sf(39, 60, 0.5))


def test_equal_predictions_and_ties_are_not_superior() -> None:
    right = np.arange(100) < 80
    same = compare(right, right, ALPHA)
    assert (same.num_samples, same.accuracy, same.champion_accuracy, same.difference) == (100, 0.8, 0.8, 0)
    assert (same.better, same.worse, same.p_value, same.bootstrap) == (0, 0, 1, (0, 0))
    tie = compare(right, right[::-1], ALPHA)
    assert (tie.better, tie.worse, tie.difference) == (20, 20, 0) and tie.p_value > 0.5


def test_the_comparison_counts_discordant_photos() -> None:
    challenger = np.array([1, 1, 1, 0, 0, 1], bool)
    champion = np.array([1, 0, 0, 1, 0, 1], bool)
    found = compare(challenger, champion, ALPHA)
    assert (found.better, found.worse, found.num_samples) == (2, 1, 6)
    assert found.difference == pytest.approx(found.accuracy - found.champion_accuracy)
    assert found.confidence == pytest.approx(0.9)
    assert found.score[0] < found.difference < found.score[1]


def test_the_score_interval_equals_published_ones() -> None:
    assert score_interval(0, 1, 44, 0.9) == pytest.approx((-0.096, 0.037), abs=6e-4)  # Tango 1998, contact lenses
    # Fagerland, Lydersen & Laake 2014, Statistics in Medicine 33, 2850-2875: airway hyper-responsiveness
    assert score_interval(1, 7, 21, 0.95) == pytest.approx((-0.517, -0.026), abs=6e-4)


def test_the_score_interval_ends_where_a_numerical_score_test_rejects() -> None:
    """The likelihood is maximised over the nuisance parameter on a grid instead of by the paper's formula."""
    better, worse, photos = 9, 4, 80
    low, high = score_interval(better, worse, photos, 0.9)
    z = float(norm.ppf(0.95))
    for bound, expected in ((low, z), (high, -z)):
        q = np.linspace(max(0, -bound) + 1e-9, (1 - bound) / 2 - 1e-9, 400_001)
        fit = better * np.log(q + bound) + worse * np.log(q) + (photos - better - worse) * np.log(1 - 2 * q - bound)
        share = q[np.argmax(fit)]
        error = np.sqrt((2 * share + bound - bound**2) / photos)
        assert ((better - worse) / photos - bound) / error == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("counts", [(0, 0, 1), (0, 0, 60), (60, 0, 60), (0, 60, 60), (1, 0, 60), (30, 30, 60)])
def test_intervals_contain_the_difference_and_stay_within_minus_1_and_1_in_extreme_cases(counts) -> None:
    better, worse, photos = counts
    low, high = score_interval(better, worse, photos, 0.9)
    assert -1 <= low <= (better - worse) / photos <= high <= 1
    assert score_interval(worse, better, photos, 0.9) == pytest.approx((-high, -low))
    assert high - low > 0.02
    low, high = bootstrap_interval(better, worse, photos, 0.9)
    assert -1 <= low <= (better - worse) / photos <= high <= 1


def test_the_bootstrap_equals_drawing_photos_with_replacement_and_is_reproducible() -> None:
    better, worse, photos = 30, 18, 400
    found = bootstrap_interval(better, worse, photos, 0.9)
    assert (
        found
        == bootstrap_interval(better, worse, photos, 0.9)
        != bootstrap_interval(better, worse, photos, 0.9, seed=1)
    )
    each = np.repeat([1, -1, 0], [better, worse, photos - better - worse])
    rng = np.random.default_rng(0)
    means = [each[rng.integers(0, photos, photos)].mean() for _ in range(10_000)]
    assert found == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.0026)  # one photo


@pytest.mark.parametrize(("photos", "discordant"), [(150, 0.1), (500, 0.05), (5840, 0.04)])
def test_the_bootstrap_interval_has_its_nominal_coverage(photos: int, discordant: float) -> None:
    rng, difference, trials = np.random.default_rng(0), 0.02, 600
    covered = 0
    for better, worse in pairs(rng, photos, difference, discordant, trials):
        low, high = bootstrap_interval(better, worse, photos, 0.9, resamples=1000)
        covered += low <= difference <= high
    assert 0.86 <= covered / trials <= 0.94


@pytest.mark.parametrize("photos", [50, 150, 2000])
@pytest.mark.parametrize("discordant", [0.02, 0.08, 0.3])
def test_equal_models_are_found_superior_at_most_at_the_rate_alpha(photos: int, discordant: float) -> None:
    drawn = pairs(np.random.default_rng(0), photos, 0, discordant, TRIALS)
    found = [mcnemar(better, worse) <= ALPHA for better, worse in drawn.tolist()]
    assert np.mean(found) <= at_most(ALPHA, TRIALS)


def test_equal_models_on_hard_and_easy_photos_are_found_superior_at_most_at_the_rate_alpha() -> None:
    """Like real models: both classify easy photos correctly and each some of the hard ones. Whole arrays, through `compare`."""
    rng, trials, found = np.random.default_rng(1), 1000, 0
    for _ in range(trials):
        ease = rng.beta(4, 0.5, 300)
        found += compare(rng.random(300) < ease, rng.random(300) < ease, ALPHA).p_value <= ALPHA
    assert 0 < found / trials <= at_most(ALPHA, trials)


@pytest.mark.parametrize(
    ("photos", "margin", "discordant"),
    [(50, 0.02, 0.06), (50, 0.05, 0.12), (150, 0.01, 0.03), (150, 0.02, 0.12), (500, 0.01, 0.06), (2000, 0.01, 0.04)],
)
def test_models_worse_by_the_margin_are_found_not_inferior_at_most_at_the_rate_alpha(
    photos: int, margin: float, discordant: float
) -> None:
    drawn = pairs(np.random.default_rng(0), photos, -margin, discordant, TRIALS)
    found = [score_interval(better, worse, photos, 1 - 2 * ALPHA)[0] > -margin for better, worse in drawn.tolist()]
    assert np.mean(found) <= at_most(ALPHA, TRIALS)


def test_a_bootstrap_would_pass_far_more_inferior_models_when_few_photos_differ() -> None:
    """Why the gate uses the score interval."""
    drawn = pairs(np.random.default_rng(0), 50, -0.01, 0.03, 500)
    found = [bootstrap_interval(better, worse, 50, 0.9, resamples=500)[0] > -0.01 for better, worse in drawn.tolist()]
    assert np.mean(found) > 0.25


def test_a_much_better_challenger_is_nearly_always_found_superior() -> None:
    drawn = pairs(np.random.default_rng(0), 150, 0.12, 0.2, 500).tolist()
    assert np.mean([mcnemar(better, worse) <= ALPHA for better, worse in drawn]) > 0.9
    drawn = pairs(np.random.default_rng(0), 2000, 0.02, 0.08, 500).tolist()
    assert np.mean([mcnemar(better, worse) <= ALPHA for better, worse in drawn]) > 0.9


def test_with_enough_photos_an_equal_challenger_is_usually_found_not_inferior() -> None:
    drawn = pairs(np.random.default_rng(0), 5840, 0, 0.04, 500).tolist()
    found = [score_interval(better, worse, 5840, 1 - 2 * ALPHA)[0] > -0.01 for better, worse in drawn]
    assert np.mean(found) > 0.9
