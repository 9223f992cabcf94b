"""How many challengers were compared on the same test photos, and what that does to the gate's level.

Of k comparisons at level alpha, each with a challenger that is no better, at least one succeeds with a probability of up to
1 - (1 - alpha)^k where the comparisons are independent (Sidak 1967). The gate does not correct for it: a correction would
make each experiment cost the next ones their chance. It states this chance, and the level that would keep it at alpha.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from plumage.tracking import tags

COMPARED_ON = f"{tags.GATE}compared_on"
"""A version's tag: the hash of the test photos that it was compared on; `none` if it was not."""


def count_comparisons(versions: Sequence[ModelVersion], version: int, test_hash: str, alpha: float) -> dict[str, Any]:
    """The decision's `comparisons`: `count`, with that of `version`; and the levels that follow from it."""
    others = [found for found in versions if int(found.version) != version]
    number = 1 + sum(found.tags.get(COMPARED_ON) == test_hash for found in others)
    return {
        "test_photos": test_hash,
        "count": number,
        "chance_of_a_false_promotion": round(1 - (1 - alpha) ** number, 4),
        "alpha_for_all": float(f"{1 - (1 - alpha) ** (1 / number):.3g}"),
    }


def in_words(comparisons: Mapping[str, Any], alpha: float) -> str:
    """The line that says what several comparisons do to the level; empty for the first."""
    if (number := comparisons["count"]) == 1:
        return ""
    return (
        f"comparison {number:,} on the same test photos: at alpha {alpha:g} each, the chance that one of {number:,} equal "
        f"challengers is promoted is up to {comparisons['chance_of_a_false_promotion']:.0%} (alpha "
        f"{comparisons['alpha_for_all']:.2g} would keep it at {alpha:.0%})"
    )
