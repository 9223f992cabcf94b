"""The gate: whether a challenger takes the champion's place, and every reason why not.

Both are judged on the same test photos, pair by pair (`plumage.evaluation.compare`), without those that the champion was
trained on. The rule `superior` takes an exact McNemar test at `level` for the challenger; `not_inferior` takes that the
lower end of Tango's score interval, which errs at the rate `level`, lies above -`margin`. A bootstrap is no rule here: of
few differences it knows too little, and would let through a model that is worse by the margin up to 8 times as often as
it says (tests/evaluation/test_compare.py). Floors and ceilings hold for every challenger, also the first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.errors import ModelError, PlumageError
from plumage.evaluation.compare import Comparison, compare
from plumage.evaluation.predictions import compute_predictions, read_predictions
from plumage.inference.latency import latency_ms
from plumage.inference.predictor import Predictor
from plumage.models.saved_model import WEIGHTS_FILE, load_model
from plumage.registry.training_photos import seen_photos

LISTED = 20
TIMED_PHOTOS = 8
DECIMALS = 6
BY_HAND = "; `plumage registry promote` can decide by hand"


@dataclass(frozen=True)
class Champion:
    """What the registry has of the champion. Each of the three fetches files, and raises a PlumageError where there are none."""

    version: int
    judged_here: bool
    """Whether its predictions are of the very same test photos."""
    predictions: Callable[[], Path]
    """Its predictions.csv."""
    training_photos: Callable[[], Path]
    """Its training_photos.parquet."""
    model: Callable[[], Path]
    """The folder of its weights and description."""


@dataclass(frozen=True)
class Challenger:
    """The model that was trained last."""

    version: int
    folder: Path
    """Of its weights and description."""
    metrics: Mapping[str, Any]
    """Of reports/metrics.json."""
    predictions: Path
    """Its predictions.csv of the test photos."""
    withdrawn: str | None
    """Why it may not be champion whatever it can, if somebody decided so."""


@dataclass(frozen=True)
class Gate:
    """The rule, and the photos that it is applied to: the rows `test` of the data set."""

    settings: Register
    dataset: Dataset
    test: Sequence[int]
    similarity: float | None
    """split.similarity: how much alike near-duplicates are."""

    def decide(self, challenger: Challenger, champion: Champion | None) -> dict[str, Any]:
        """The `decision` of reports/registry.json: `promoted`, `reason`, and all that they rest on.

        Raises:
            PlumageError: the challenger's own files can't be read or are of other photos.
        """
        keys, labels = ([column[row] for row in self.test] for column in (self.dataset.keys, self.dataset.labels))
        answers = np.array(read_predictions(challenger.predictions, keys, labels), dtype=object)
        truth = np.array(labels, dtype=object)
        limits = self._limits(challenger, answers == truth, truth)
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
        if champion and champion.version == challenger.version:
            return {**decision, "reason": f"version {champion.version} is the champion already"}
        against = [
            f"{limit['name']} is {limit['limit']:g}, this is {limit['value']:g}" for limit in limits if not limit["met"]
        ]
        if challenger.withdrawn:
            against.append(challenger.withdrawn)
        verdict = "there was no champion"
        if champion:
            won, verdict, basis = self._challenge(champion, answers == truth, keys, labels)
            decision |= basis
            if not won:
                against.append(verdict)
        return {**decision, "promoted": not against, "reason": "; ".join(against) or verdict}

    def _challenge(
        self, champion: Champion, right: NDArray[np.bool_], keys: Sequence[str], labels: Sequence[str]
    ) -> tuple[bool, str, dict[str, Any]]:
        """Whether the rule is fulfilled by a model with the answers `right`, why (not), and what that rests on."""
        try:
            answers, source = self._answers_of(champion, keys, labels)
        except PlumageError as error:
            return (
                False,
                f"champion version {champion.version} can't be judged on these test photos: {error}{BY_HAND}",
                {},
            )
        theirs = answers == np.array(labels, dtype=object)
        left_out, keep = self._seen_by(champion)
        basis = {"champion_test_accuracy": round(float(theirs.mean()), DECIMALS), "left_out": left_out}
        if (left := int(keep.sum())) < self.settings.min_photos:
            which = "" if keep.all() else f" that champion version {champion.version} was not trained on"
            told = f"{left:,} test photos{which} are too few to compare on (min_photos is {self.settings.min_photos:,}){BY_HAND}"
            return False, told, basis
        comparison = compare(right[keep], theirs[keep], self.settings.alpha)
        return *self._verdict(comparison, champion.version), {**basis, "comparison": _shown(comparison, source)}

    def _rule(self) -> dict[str, Any]:
        settings = self.settings
        margin = {"margin": settings.margin} if settings.gate == "not_inferior" else {}
        return {"name": settings.gate, "alpha": settings.alpha, **margin, "min_photos": settings.min_photos}

    def _verdict(self, comparison: Comparison, champion: int) -> tuple[bool, str]:
        """Whether the rule is fulfilled, and the sentence that says so or not."""
        level, margin = self.settings.alpha, self.settings.margin
        figures = (
            f"{comparison.accuracy:.4f} against {comparison.champion_accuracy:.4f} of champion version {champion} on "
            f"{comparison.num_samples:,} photos"
        )
        if self.settings.gate == "superior":
            p = f"McNemar p = {comparison.p_value:.2g}"
            if comparison.p_value <= level:
                return True, f"{figures}: better ({p}, at most {level:g})"
            return False, f"{figures}: not shown to be better ({p}, over {level:g})"
        least = f"the difference is at least {comparison.score[0]:+.4f}"
        if comparison.score[0] > -margin:
            return True, f"{figures}: not worse by {margin:g} ({least})"
        return False, f"{figures}: may be worse by {margin:g} ({least})"

    def _answers_of(
        self, champion: Champion, keys: Sequence[str], labels: Sequence[str]
    ) -> tuple[NDArray[np.object_], str]:
        """The champion's answers for the test photos, and where they are from."""
        if champion.judged_here:
            try:
                return np.array(read_predictions(champion.predictions(), keys, labels), dtype=object), "logged"
            except PlumageError:
                pass  # they are gone, or the photos have other names now: it can be asked again
        return np.array(compute_predictions(champion.model(), self.dataset, self.test), dtype=object), "evaluated anew"

    def _seen_by(self, champion: Champion) -> tuple[dict[str, Any], NDArray[np.bool_]]:
        """What is left out as the champion was trained on it, and which of the test photos stay."""
        try:
            same, near = seen_photos(champion.training_photos(), self.dataset, self.test, self.similarity)
        except PlumageError as error:
            unknown = f"which photos champion version {champion.version} was trained on is not known: {error}"
            return {"checked": False, "why_not": unknown}, np.ones(len(self.test), np.bool_)
        seen = same | near
        left_out = [self.dataset.keys[row] for row, was_seen in zip(self.test, seen, strict=True) if was_seen]
        counts = {"same_photos": int(same.sum()), "near_duplicates": int(near.sum())}
        return {"checked": True, **counts, "keys": sorted(left_out)[:LISTED]}, ~seen

    def _limits(
        self, challenger: Challenger, right: NDArray[np.bool_], truth: NDArray[np.object_]
    ) -> list[dict[str, Any]]:
        """Each floor and ceiling that is set: name, limit, value, met; of the worst class its name too."""
        settings, limits = self.settings, []

        def add(name: str, value: Callable[[], float], **more: str) -> None:
            limit = getattr(settings, name)
            if limit is not None:
                found = round(value(), DECIMALS)
                met = found >= limit if name.startswith("min_") else found <= limit
                limits.append({"name": name, "limit": limit, "value": found, "met": met, **more})

        recalls = {label: float(right[truth == label].mean()) for label in sorted(set(truth))}
        worst = min(recalls, key=lambda label: recalls[label])
        add("min_accuracy", lambda: float(challenger.metrics["test"]["accuracy"]))
        add("min_class_recall", lambda: recalls[worst], label=worst)
        add("max_ece", lambda: float(challenger.metrics["test"]["ece"]))
        add("max_latency_ms", lambda: self._latency_ms(challenger.folder))
        add("max_size_mb", lambda: _size_mb(challenger.folder))
        return limits

    def _latency_ms(self, folder: Path) -> float:
        photos = [bytes(self.dataset.photo(row)) for row in self.test[:TIMED_PHOTOS]]
        return latency_ms(Predictor(load_model(folder)), photos)


def sentences(decision: Mapping[str, Any]) -> list[str]:
    """What a decision rests on, beyond its reason: a line a thing."""
    lines = []
    if comparison := decision["comparison"]:
        low, high = comparison["score_interval"]["low"], comparison["score_interval"]["high"]
        lines.append(
            f"difference {comparison['difference']:+.4f} ({comparison['confidence']:.0%}: {low:+.4f} to {high:+.4f}); of "
            f"{comparison['photos']:,} photos {comparison['only_challenger_right']:,} only this one gets right, "
            f"{comparison['only_champion_right']:,} only the champion ({comparison['champion_answers']})"
        )
    for limit in decision["limits"]:
        label = f" ({limit['label']})" if "label" in limit else ""
        lines.append(
            f"{limit['name']} {limit['limit']:g}: {limit['value']:g}{label}, {'met' if limit['met'] else 'not met'}"
        )
    if left_out := decision["left_out"]:
        if not left_out["checked"]:
            lines.append(left_out["why_not"])
        elif left_out["keys"]:
            count = left_out["same_photos"] + left_out["near_duplicates"]
            lines.append(
                f"left out: {count:,} test photos that champion version {decision['champion_before']} was trained on "
                f"({left_out['same_photos']:,} the same, {left_out['near_duplicates']:,} near-duplicates)"
            )
    return lines


def _shown(comparison: Comparison, source: str) -> dict[str, Any]:
    def rounded(value: float) -> float:
        return round(value, DECIMALS)

    return {
        "photos": comparison.num_samples,
        "champion_answers": source,
        "accuracy": rounded(comparison.accuracy),
        "champion_accuracy": rounded(comparison.champion_accuracy),
        "difference": rounded(comparison.difference),
        "only_challenger_right": comparison.better,
        "only_champion_right": comparison.worse,
        "p_value": float(f"{comparison.p_value:.6g}"),
        "confidence": comparison.confidence,
        "score_interval": {"low": rounded(comparison.score[0]), "high": rounded(comparison.score[1])},
        "bootstrap_interval": {"low": rounded(comparison.bootstrap[0]), "high": rounded(comparison.bootstrap[1])},
    }


def _size_mb(folder: Path) -> float:
    try:
        return (folder / WEIGHTS_FILE).stat().st_size / 1e6
    except OSError as error:
        raise ModelError(f"{folder / WEIGHTS_FILE}: can't be read ({error.strerror})") from None
