"""The gate's decision as text: for the terminal, for a version's tags and for its description."""

from collections.abc import Iterator, Mapping
from typing import Any

from plumage.common.figures import difference
from plumage.common.text import markdown, plural, shown
from plumage.registry.comparisons import in_words
from plumage.registry.limits import written
from plumage.registry.model_card import LONGEST_DESCRIPTION, shortened
from plumage.tracking import tags

GATE_REASON = f"{tags.GATE}reason"


def summary(registered: Mapping[str, Any]) -> str:
    """The content of reports/registry.json as a few lines for the terminal."""
    aliases = ", ".join(f"@{alias}" for alias in registered["aliases"]) or "no alias"
    decision = registered["decision"]
    headline = f"{registered['name']} version {registered['version']} ({aliases}): {decision['reason']}"
    warning = [registered["warning"]] if registered["warning"] else []
    return "\n".join([headline, *(f"  {line}" for line in details(decision)), *warning])


def details(decision: Mapping[str, Any]) -> list[str]:
    """The figures behind a decision's reason, one line each."""
    return [
        *_comparison(decision["comparison"]),
        *_comparisons(decision),
        *_limits(decision["limits"]),
        *_left_out(decision),
    ]


def decision_tags(decision: Mapping[str, Any]) -> dict[str, str]:
    """The decision as tags of a version. The keys are always the same, so a new decision replaces all of an old one."""
    rule = ", ".join(f"{key} {value}" if key != "name" else value for key, value in decision["rule"].items())
    values = {
        "promoted": str(decision["promoted"]).lower(),
        "champion_before": decision["champion_before"] or "none",
        "rule": rule,
        "compared_on": (decision["comparisons"] or {"test_photos": "none"})["test_photos"],
        "reason": decision["reason"],
        "figures": "; ".join(details(decision)) or "none",
    }
    return {f"{tags.GATE}{key}": shown(value) for key, value in values.items()}


def version_description(reason: str, card: str) -> str:
    """A version's description in MLflow: why it is champion or not, then its model card, cut to MLflow's limit."""
    gate = f"Gate: {markdown(reason)}\n\n"
    return gate + shortened(card, LONGEST_DESCRIPTION - len(gate))


def _comparison(comparison: Mapping[str, Any] | None) -> Iterator[str]:
    if comparison:
        photos, interval = comparison["photos"], comparison["score_interval"]
        low, high = (difference(interval[end], photos).removesuffix(" points") for end in ("low", "high"))
        yield (
            f"difference {difference(comparison['difference'], photos)} ({comparison['confidence']:.0%}: {low} to {high}); "
            f"of {plural(photos, 'photo')} {comparison['only_challenger_right']:,} only this one gets right, "
            f"{comparison['only_champion_right']:,} only the champion ({comparison['champion_answers']})"
        )


def _comparisons(decision: Mapping[str, Any]) -> Iterator[str]:
    if decision["comparisons"] and (line := in_words(decision["comparisons"], decision["rule"]["alpha"])):
        yield line


def _limits(limits: list[dict[str, Any]]) -> Iterator[str]:
    for limit in limits:
        label = f" ({limit['label']})" if "label" in limit else ""
        met = "met" if limit["met"] else "not met"
        yield f"{limit['name']} {written(limit, 'limit')}: {written(limit, 'value')}{label}, {met}"


def _left_out(decision: Mapping[str, Any]) -> Iterator[str]:
    left_out = decision["left_out"]
    if left_out and not left_out["checked"]:
        yield left_out["why_not"]
    elif left_out and left_out["keys"]:
        same, near = left_out["same_photos"], left_out["near_duplicates"]
        yield (
            f"left out: {same + near:,} test photos that champion version {decision['compared_with']} was trained on "
            f"({same:,} the same, {near:,} near-duplicates)"
        )
    if left_out and (repeats := left_out["repeats"]):
        yield f"left out: {repeats:,} near-duplicates of other test photos; one photo per group counts"
