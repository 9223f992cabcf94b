"""The gate: decides whether a challenger replaces the champion, and gives every reason when it does not.

Both models are compared photo by photo on the same test photos (`plumage.evaluation.compare`), without those that the
champion was trained on. `superior` requires an exact McNemar test at level `alpha`. `not_inferior` requires the lower
end of Tango's score interval, which errs at the rate `alpha`, to lie above -`margin`. The bootstrap interval decides
nothing: with few differences it is too narrow, and would accept a model that is worse by the margin up to 8 times as
often as it promises (tests/evaluation/test_compare.py). The limits apply to every challenger, including the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import rows_hash
from plumage.errors import PlumageError
from plumage.evaluation.compare import Comparison, compare
from plumage.evaluation.predictions import compute_predictions, read_predictions
from plumage.registry.candidate import Candidate
from plumage.registry.champion import Champion
from plumage.registry.limits import DECIMALS, Results, check_limits
from plumage.registry.training_photos import seen_photos

LISTED = 20
TIMED_PHOTOS = 8
BY_HAND = "; `plumage registry promote` can decide by hand"


@dataclass(frozen=True)
class Gate:
    """The rule, and the test photos that it is applied to: the rows `test` of the data set."""

    settings: Register
    dataset: Dataset
    test: Sequence[int]
    similarity: float | None
    """split.similarity: the least correlation of near-duplicates' thumbnails; None: no photos count as such."""

    @property
    def test_hash(self) -> str:
        """Hash of the test photos: models with the same one were tested on the same photos."""
        return rows_hash(self.dataset, list(self.test))

    def decide(
        self, challenger: Candidate, version: int, champion: Champion | None, blocked: str | None
    ) -> dict[str, Any]:
        """Return the `decision` of reports/registry.json: `promoted`, `reason` and the figures behind them.

        `version` is the challenger's; `blocked` is why it must not be promoted, None if it may.

        Raises:
            PlumageError: the challenger's own files can't be read or are of other photos.
        """
        correct = self._is_correct(read_predictions(challenger.predictions, self._keys, self._labels))
        photos = [bytes(self.dataset.photo(row)) for row in self.test[:TIMED_PHOTOS]]
        limits = check_limits(self.settings, Results(challenger, self._labels, correct, photos))
        decision: dict[str, Any] = {
            "promoted": False,
            "reason": "",
            "test_accuracy": float(challenger.metrics["test"]["accuracy"]),
            "champion_before": champion.version if champion else None,
            "champion_test_accuracy": None,
            "rule": self._rule(),
            "limits": limits,
            "comparison": None,
            "left_out": None,
        }
        if champion and champion.version == version:
            return {**decision, "reason": f"version {version} is the champion already"}
        missed = [limit for limit in limits if not limit["met"]]
        objections = [f"{limit['name']} is {limit['limit']:g}, this is {limit['value']:g}" for limit in missed]
        if blocked:
            objections.append(blocked)
        if champion is None:
            reason = "there was no champion"
        else:
            passed, reason, figures = self._apply_rule(champion, correct)
            decision |= figures
            if not passed:
                objections.append(reason)
        return {**decision, "promoted": not objections, "reason": "; ".join(objections) or reason}

    @property
    def _keys(self) -> list[str]:
        return [self.dataset.keys[row] for row in self.test]

    @property
    def _labels(self) -> list[str]:
        return [self.dataset.labels[row] for row in self.test]

    def _is_correct(self, predictions: Sequence[str]) -> NDArray[np.bool_]:
        return np.array([predicted == label for predicted, label in zip(predictions, self._labels, strict=True)])

    def _rule(self) -> dict[str, Any]:
        settings = self.settings
        margin = {"margin": settings.margin} if settings.gate == "not_inferior" else {}
        return {"name": settings.gate, "alpha": settings.alpha, **margin, "min_photos": settings.min_photos}

    def _apply_rule(self, champion: Champion, correct: NDArray[np.bool_]) -> tuple[bool, str, dict[str, Any]]:
        """Whether a challenger that is `correct` on these test photos passes the rule, the reason and its figures."""
        try:
            predictions, source = self._predictions_of(champion)
        except PlumageError as error:
            reason = f"champion version {champion.version} can't be judged on these test photos: {error}{BY_HAND}"
            return False, reason, {}
        champion_correct = self._is_correct(predictions)
        left_out, keep = self._leave_out(champion)
        figures = {"champion_test_accuracy": round(float(champion_correct.mean()), DECIMALS), "left_out": left_out}
        if (left := int(keep.sum())) < self.settings.min_photos:
            which = "" if keep.all() else f" that champion version {champion.version} was not trained on"
            too_few = f"are too few to compare on (min_photos is {self.settings.min_photos:,}){BY_HAND}"
            return False, f"{left:,} test photos{which} {too_few}", figures
        comparison = compare(correct[keep], champion_correct[keep], self.settings.alpha)
        passed, reason = self._judge(comparison, champion.version)
        return passed, reason, {**figures, "comparison": _as_json(comparison, source)}

    def _judge(self, comparison: Comparison, champion: int) -> tuple[bool, str]:
        """Whether a comparison passes the rule, and the sentence that says so."""
        alpha, margin = self.settings.alpha, self.settings.margin
        figures = (
            f"{comparison.accuracy:.4f} against {comparison.champion_accuracy:.4f} of champion version {champion} on "
            f"{comparison.num_samples:,} photos"
        )
        if self.settings.gate == "superior":
            p = f"McNemar p = {comparison.p_value:.2g}"
            if comparison.p_value <= alpha:
                return True, f"{figures}: better ({p}, at most {alpha:g})"
            return False, f"{figures}: not shown to be better ({p}, over {alpha:g})"
        least = f"the difference is at least {comparison.score[0]:+.4f}"
        if comparison.score[0] > -margin:
            return True, f"{figures}: not worse by {margin:g} ({least})"
        return False, f"{figures}: may be worse by {margin:g} ({least})"

    def _predictions_of(self, champion: Champion) -> tuple[Sequence[str], str]:
        """The class that the champion predicts for each test photo, and where these predictions come from."""
        if champion.same_test_photos:
            try:
                return read_predictions(champion.predictions(), self._keys, self._labels), "logged"
            except PlumageError:
                pass  # the file is gone or damaged, or the photos were renamed: predict again
        return compute_predictions(champion.model(), self.dataset, self.test), "evaluated anew"

    def _leave_out(self, champion: Champion) -> tuple[dict[str, Any], NDArray[np.bool_]]:
        """Which test photos are left out because the champion was trained on them, and a mask of those to keep."""
        try:
            same, near = seen_photos(champion.training_photos(), self.dataset, self.test, self.similarity)
        except PlumageError as error:
            unknown = f"which photos champion version {champion.version} was trained on is not known: {error}"
            return {"checked": False, "why_not": unknown}, np.ones(len(self.test), np.bool_)
        seen = same | near
        keys = sorted(key for key, was_seen in zip(self._keys, seen, strict=True) if was_seen)
        counts = {"same_photos": int(same.sum()), "near_duplicates": int(near.sum())}
        return {"checked": True, **counts, "keys": keys[:LISTED]}, ~seen


def _as_json(comparison: Comparison, source: str) -> dict[str, Any]:
    (low, high), (low_bootstrap, high_bootstrap) = comparison.score, comparison.bootstrap
    return {
        "photos": comparison.num_samples,
        "champion_answers": source,
        "accuracy": round(comparison.accuracy, DECIMALS),
        "champion_accuracy": round(comparison.champion_accuracy, DECIMALS),
        "difference": round(comparison.difference, DECIMALS),
        "only_challenger_right": comparison.better,
        "only_champion_right": comparison.worse,
        "p_value": float(f"{comparison.p_value:.6g}"),
        "confidence": comparison.confidence,
        "score_interval": {"low": round(low, DECIMALS), "high": round(high, DECIMALS)},
        "bootstrap_interval": {"low": round(low_bootstrap, DECIMALS), "high": round(high_bootstrap, DECIMALS)},
    }
