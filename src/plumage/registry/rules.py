"""The gate's rules: pure functions of a comparison, whose verdict says in one sentence what the test photos show.

`superior` is the exact McNemar test at level `alpha`. `not_inferior` requires the lower end of Tango's score interval, which errs
at the rate `alpha`, to lie above -`margin`. `shared_classes` is for a challenger with other classes than the champion; it is an
intersection-union test (Berger 1982, Technometrics 24, 295-300): each of its parts errs at most at the rate `alpha`, so a challenger
that violates one of them passes all of them at most at that rate.
"""

import math
from typing import Any, NamedTuple

from scipy.stats import norm

from plumage.common.figures import difference, margin, percentage
from plumage.config import Register
from plumage.evaluation.compare import Comparison, binomial_p, fewest_wins

MAX_TAKEN = 0.25
"""The share of photos of shared classes that a challenger may call one of its new classes."""
POWER = 0.8
"""With which the number of photos that it would take is estimated."""


class Verdict(NamedTuple):
    """Whether a challenger passes, and the sentence that says so."""

    passed: bool
    reason: str


class NewClasses(NamedTuple):
    """A challenger's answers for photos of its new classes, and its false ones among photos of the shared classes."""

    num_classes: int
    """Of the challenger."""
    photos: int
    right: int
    shared_photos: int
    taken: int
    """Photos of shared classes that it calls a new class."""


def judge_same_classes(comparison: Comparison, settings: Register) -> Verdict:
    """Apply `register.gate` to two models of the same classes."""
    return _superior(comparison, settings) if settings.gate == "superior" else _not_inferior(comparison, settings)


def _superior(comparison: Comparison, settings: Register) -> Verdict:
    p, alpha = f"McNemar p = {comparison.p_value:.2g}", settings.alpha
    if comparison.p_value <= alpha:
        return Verdict(True, f"better ({p}, at most {alpha:g})")
    return Verdict(False, f"not shown to be better ({p}, over {alpha:g}){_superior_takes(comparison, alpha)}")


def _superior_takes(comparison: Comparison, alpha: float) -> str:
    """What it would take to show the challenger to be better, as far as these photos say."""
    least = fewest_wins(alpha)
    wrong = round((1 - comparison.champion_accuracy) * comparison.num_samples)
    if wrong < least:
        return (
            f"; these photos can't show it: that takes {least} which only the challenger gets right, "
            f"and the champion is wrong on {wrong:,} of {comparison.num_samples:,}"
        )
    if comparison.difference <= 0:
        return ""
    differ = (comparison.better + comparison.worse) / comparison.num_samples
    spread = norm.ppf(1 - alpha) * math.sqrt(differ) + norm.ppf(POWER) * math.sqrt(differ - comparison.difference**2)
    needed = max(comparison.num_samples + 1, math.ceil((spread / comparison.difference) ** 2))
    return f"; at this rate about {_two_digits(needed):,} test photos would show it"


def _not_inferior(comparison: Comparison, settings: Register) -> Verdict:
    tolerated, least = settings.margin, _least(comparison)
    if comparison.score[0] > -tolerated:
        return Verdict(True, f"not worse by {margin(tolerated)} ({least})")
    smallest = smallest_margin(comparison.num_samples, settings.alpha)
    takes = ""
    if tolerated <= smallest:
        z = norm.ppf(1 - settings.alpha)
        needed = math.floor(z * z * (1 - tolerated) / tolerated) + 1
        takes = (
            f"; {comparison.num_samples:,} photos can't show less than {margin(smallest)}, "
            f"{margin(tolerated)} takes {needed:,} or more"
        )
    return Verdict(False, f"may be worse by {margin(tolerated)} ({least}){takes}")


def _least(comparison: Comparison) -> str:
    return f"the difference is at least {difference(comparison.score[0], comparison.num_samples)}"


def smallest_margin(num_samples: int, alpha: float) -> float:
    """The loss of accuracy that Tango's interval excludes for two models that are right on the very same photos."""
    z = float(norm.ppf(1 - alpha))
    return z * z / (num_samples + z * z)


def tolerated_loss(num_samples: int, margin: float) -> float:
    """The loss of accuracy on shared classes that `shared_classes` tolerates: `margin`, or 1 / sqrt(N) where that is more.

    A challenger that is worse by this much passes at most at the rate alpha (docs/registry.md).
    """
    return max(margin, 1 / math.sqrt(num_samples))


def shared_classes_rule(comparison: Comparison, settings: Register) -> dict[str, Any]:
    """The rule of `judge_shared_classes`, as the decision has it."""
    loss = round(tolerated_loss(comparison.num_samples, settings.margin), 4)
    return {
        "name": "shared_classes",
        "alpha": settings.alpha,
        "margin": loss,
        "min_new_recall": settings.min_new_recall,
    }


def judge_shared_classes(comparison: Comparison, new: NewClasses | None, settings: Register) -> Verdict:
    """Judge a challenger by the classes that it shares with the champion, and by the floor for its new ones, if any.

    `comparison` is on photos of shared classes, both models restricted to these.
    """
    loss = tolerated_loss(comparison.num_samples, settings.margin)
    passed = comparison.score[0] > -loss
    how = "not" if passed else "may be"
    verdicts = [Verdict(passed, f"{how} worse by {margin(loss)} ({_least(comparison)})")]
    if new:
        verdicts += [_recall_of_new(new, settings), _taken_by_new(new, settings.alpha)]
    return Verdict(all(verdict.passed for verdict in verdicts), ", ".join(verdict.reason for verdict in verdicts))


def _recall_of_new(new: NewClasses, settings: Register) -> Verdict:
    floor = max(settings.min_new_recall, 1 / new.num_classes)
    passed = binomial_p(new.right, new.photos, floor) <= settings.alpha
    least = percentage(round(floor, 3))
    said = f"{new.right:,} of {new.photos:,} photos of new classes right, recall"
    if passed:
        return Verdict(True, f"{said} over {least}")
    enough = (right for right in range(new.photos + 1) if binomial_p(right, new.photos, floor) <= settings.alpha)
    takes = next(enough, None)
    if takes is not None:
        return Verdict(False, f"{said} not shown to be over {least} (that takes {takes:,})")
    needed = math.ceil(math.log(settings.alpha) / math.log(floor))
    return Verdict(False, f"{said} not shown to be over {least} (that takes {needed:,} photos or more)")


def _taken_by_new(new: NewClasses, alpha: float) -> Verdict:
    passed = binomial_p(new.shared_photos - new.taken, new.shared_photos, 1 - MAX_TAKEN) <= alpha
    said = f"{new.taken:,} of {new.shared_photos:,} photos of shared classes called a new one"
    return Verdict(passed, said if passed else f"{said}, not shown to be under {percentage(MAX_TAKEN)}")


def _two_digits(number: int) -> int:
    """`number`, rounded up to two significant digits."""
    unit = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit
