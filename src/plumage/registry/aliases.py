"""The aliases of a registered model's versions."""

CHALLENGER, CHAMPION = "challenger", "champion"
"""The newest version, and the version to use."""
KEPT = "champion-"
"""Followed by `class_set`: the champion of a set of classes while `champion` is that of another."""


def kept_alias(class_set: str) -> str:
    """The alias of a set's champion while another set has `champion`: `champion-10-classes-3f2a91c4`."""
    return f"{KEPT}{class_set}"
