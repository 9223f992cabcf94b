"""The gate: decides whether a challenger replaces the champion, and gives every reason when it does not.

Both models are compared photo by photo on the same test photos (`plumage.registry.head_to_head`), by the rules in
`plumage.registry.rules`. Models that share fewer than two classes are different models: each set of classes has its
champion, and the alias `@champion` is at that of the set registered last. The sample's models are an exception: they don't
take the place of one of other photos. The limits apply to every challenger, including the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.config import Register
from plumage.data.split.splits_file import rows_hash
from plumage.evaluation.predictions import read_predictions
from plumage.registry.candidate import Candidate
from plumage.registry.champion import Standing
from plumage.registry.class_sets import class_set
from plumage.registry.head_to_head import BY_HAND, HeadToHead, TestPhotos
from plumage.registry.limits import Results, check_limits, written

TIMED_PHOTOS = 8


@dataclass(frozen=True)
class Gate:
    """The rule, and the test photos that it is applied to."""

    settings: Register
    photos: TestPhotos

    @cached_property
    def test_hash(self) -> str:
        """Hash of the test photos: models with the same one were tested on the same photos."""
        return rows_hash(self.photos.dataset, list(self.photos.rows))

    def decide(self, challenger: Candidate, version: int, standing: Standing) -> dict[str, Any]:
        """Return the `decision` of reports/registry.json: `promoted`, `champion`, `reason` and the figures behind them.

        `version` is the challenger's, `champion` the version that `@champion` is at from now on.

        Raises:
            PlumageError: the challenger's own files can't be read or are of other photos.
        """
        labels = self.photos.labels
        predictions = np.array(read_predictions(challenger.predictions, self.photos.keys, list(labels)), dtype=object)
        champion, rival = standing.champion, standing.rival
        decision: dict[str, Any] = {
            "promoted": False,
            "champion": champion.version if champion else None,
            "reason": "",
            "test_accuracy": float(challenger.metrics["test"]["accuracy"]),
            "champion_before": champion.version if champion else None,
            "compared_with": rival.version if rival else None,
            "champion_test_accuracy": None,
            "rule": self._rule(),
            "limits": self._check_limits(challenger, predictions == labels),
            "comparison": None,
            "comparisons": None,
            "classes": None,
            "left_out": None,
        }
        if champion and champion.version == version:
            return {**decision, "reason": f"version {version} is the champion already"}
        missed = [limit for limit in decision["limits"] if not limit["met"]]
        objections = [
            f"{limit['name']} is {written(limit, 'limit')}, this is {written(limit, 'value')}" for limit in missed
        ]
        objections += filter(None, [standing.blocked, _why_the_sample_stays_out(challenger, standing)])
        if rival is None:
            reason = "there was no champion"
        elif rival.version == version:
            reason = f"version {version} is the champion of these classes"
        else:
            verdict, figures = HeadToHead(self.photos, challenger, predictions, rival, self.settings).judge()
            decision |= figures
            reason = verdict.reason
            if not verdict.passed:
                objections.append(reason)
        if not objections:
            return {**decision, "promoted": True, "champion": version, "reason": reason}
        return {**decision, **_without_promotion(challenger, standing, objections)}

    def _check_limits(self, challenger: Candidate, correct: NDArray[np.bool_]) -> list[dict[str, Any]]:
        timed = [bytes(self.photos.dataset.photo(row)) for row in self.photos.rows[:TIMED_PHOTOS]]
        return check_limits(self.settings, Results(challenger, list(self.photos.labels), correct, timed))

    def _rule(self) -> dict[str, Any]:
        settings = self.settings
        margin = {"margin": settings.margin} if settings.gate == "not_inferior" else {}
        return {"name": settings.gate, "alpha": settings.alpha, **margin}


def _why_the_sample_stays_out(challenger: Candidate, standing: Standing) -> str | None:
    """Why a model of the sample must not become champion, if it must not: the champion is of other photos and classes."""
    champion = standing.champion
    if champion is None or not challenger.from_sample or champion.class_set == class_set(challenger.classes):
        return None
    if champion.from_sample():
        return None
    return f"this model was trained on the sample, and champion version {champion.version} on your own photos{BY_HAND}"


def _without_promotion(challenger: Candidate, standing: Standing, objections: Sequence[str]) -> dict[str, Any]:
    """The part of the decision that says who is champion: of another set of classes, its own champion is back."""
    kept, champion, reason = standing.kept, standing.champion, "; ".join(objections)
    if kept is None or standing.kept_blocked or _why_the_sample_stays_out(challenger, standing):
        return {"reason": reason}
    instead = f" in place of version {champion.version}" if champion else ""
    return {
        "champion": kept.version,
        "reason": f"{reason}; version {kept.version}, the champion of these classes, is back{instead}",
    }
