"""A challenger against a champion on the same test photos, without those that the champion was trained on.

If they know different classes, only photos of the classes that both know count, and both answer with these alone. That
includes classes that were renamed or merged: the champion still gives the old names.

Of near-duplicates among the test photos, only one counts. The tests take photos as independent, and models answer
near-duplicates alike. One photo per group keeps the tests exact; tests for grouped pairs (Obuchowski 1998, Statistics in
Medicine 17, 1495-1507) are so only with many groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plumage.common.class_names import ClassNames
from plumage.common.figures import share
from plumage.common.text import plural
from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.data.split.groups import group_numbers
from plumage.data.split.near_duplicates import group_near_duplicates
from plumage.errors import PlumageError
from plumage.evaluation.compare import Comparison, compare
from plumage.evaluation.predictions import compute_predictions, read_predictions
from plumage.registry.candidate import Candidate
from plumage.registry.champion import Champion
from plumage.registry.class_sets import ClassSets, class_set, count
from plumage.registry.limits import DECIMALS
from plumage.registry.rules import NewClasses, Verdict, judge_same_classes, judge_shared_classes, shared_classes_rule
from plumage.registry.training_photos import seen_photos

LISTED = 20
BY_HAND = "; `plumage registry promote` can decide by hand"
Figures = dict[str, Any]
"""Part of the decision in reports/registry.json."""


@dataclass(frozen=True)
class TestPhotos:
    """The rows `test` of the data set, and what is known of their classes and likenesses."""

    __test__ = False  # it is none of pytest's

    dataset: Dataset
    rows: Sequence[int]
    similarity: float | None
    """split.similarity: the least correlation of near-duplicates' thumbnails; None: no photos count as such."""
    names: ClassNames
    """data.classes: what a champion's classes are called now."""

    @cached_property
    def keys(self) -> list[str]:
        """The photos' keys."""
        return [self.dataset.keys[row] for row in self.rows]

    @cached_property
    def labels(self) -> NDArray[np.object_]:
        """The class of each photo."""
        return np.array([self.dataset.labels[row] for row in self.rows], dtype=object)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """One number per photo, the same for near-duplicates of each other."""
        if self.similarity is None:
            return np.arange(len(self.rows))
        thumbnails = self.dataset.bytes_column("thumbnail")[list(self.rows)]
        return group_numbers(group_near_duplicates(thumbnails, self.similarity), len(self.rows))

    def one_per_group(self, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """`keep`, a mask of the photos, without all but the first photo of each group."""
        kept = np.flatnonzero(keep)
        first = np.zeros_like(keep)
        first[kept[np.unique(self.groups[kept], return_index=True)[1]]] = True
        return first


@dataclass(frozen=True)
class HeadToHead:
    """A comparison of `challenger`, which gives these `predictions` for the test photos, with `champion`."""

    photos: TestPhotos
    challenger: Candidate
    predictions: NDArray[np.object_]
    champion: Champion
    settings: Register

    def judge(self) -> tuple[Verdict, Figures]:
        """Apply the rule. A champion whose files are gone or damaged can't be judged, and stays."""
        try:
            known = self.champion.class_set == class_set(self.challenger.classes)
            theirs = self.challenger.classes if known else self.champion.classes()
            sets = ClassSets.of(self.challenger.classes, theirs, self.photos.names)
            if sets.equal and class_set(theirs) == class_set(self.challenger.classes):
                return self._judge_same()
            return self._judge_shared(sets) if sets.comparable else self._different(sets)
        except PlumageError as error:
            return self._verdict(False, f"can't be judged on these test photos: {error}{BY_HAND}"), {}

    def _verdict(self, passed: bool, what: str) -> Verdict:
        return Verdict(passed, f"champion version {self.champion.version} {what}")

    def _different(self, sets: ClassSets) -> tuple[Verdict, Figures]:
        mine = count(self.challenger.classes)
        what = f"knows other classes: this is a different model, the first of its {mine}"
        return self._verdict(True, what), {"classes": _as_json(sets)}

    def _judge_same(self) -> tuple[Verdict, Figures]:
        left_out, keep = self._leave_out()
        answers, source = self._champion_s_predictions()
        right, champion_right = self.predictions == self.photos.labels, np.array(answers, object) == self.photos.labels
        figures = {"champion_test_accuracy": round(float(champion_right.mean()), DECIMALS), "left_out": left_out}
        if not keep.any():
            return self._verdict(False, f"was trained on all test photos{BY_HAND}"), figures
        comparison = compare(right[keep], champion_right[keep], self.settings.alpha)
        verdict = judge_same_classes(comparison, self.settings)
        return self._with_figures(verdict, comparison), {**figures, "comparison": _comparison_json(comparison, source)}

    def _judge_shared(self, sets: ClassSets) -> tuple[Verdict, Figures]:
        left_out, keep = self._leave_out()
        chosen = np.flatnonzero(np.isin(self.photos.labels, sets.shared) & keep)
        figures: Figures = {"left_out": left_out, "classes": _as_json(sets)}
        if not len(chosen):
            seen = f"was trained on all test photos of the classes that both know{BY_HAND}"
            return self._verdict(False, seen), figures
        mine = self._correct(self.challenger.folder, chosen, sets, ClassNames({}))
        theirs = self._correct(self.champion.model(), chosen, sets, self.photos.names)
        comparison = compare(mine, theirs, self.settings.alpha)
        new = self._new_classes(sets) if sets.new else None
        verdict = judge_shared_classes(comparison, new, self.settings)
        figures["classes"] |= new._asdict() if new else {}
        figures["comparison"] = _comparison_json(comparison, "evaluated anew")
        figures["rule"] = shared_classes_rule(comparison, self.settings)
        return self._with_figures(verdict, comparison, f" of the {count(sets.shared)} that both know"), figures

    def _correct(self, folder: Path, chosen: NDArray[np.intp], sets: ClassSets, names: ClassNames) -> NDArray[np.bool_]:
        """Whether the model in `folder` gets each of the `chosen` photos right among the shared classes."""
        rows = [self.photos.rows[place] for place in chosen]
        answers = compute_predictions(folder, self.photos.dataset, rows, sets.shared, names)
        right: NDArray[np.bool_] = np.array(answers, object) == self.photos.labels[chosen]
        return right

    def _new_classes(self, sets: ClassSets) -> NewClasses:
        labels, predictions = self.photos.labels, self.predictions
        one = self.photos.one_per_group(np.ones(len(labels), np.bool_))
        of_new, of_shared = np.isin(labels, sets.new) & one, np.isin(labels, sets.shared) & one
        return NewClasses(
            num_classes=len(self.challenger.classes),
            photos=int(of_new.sum()),
            right=int((predictions == labels)[of_new].sum()),
            shared_photos=int(of_shared.sum()),
            taken=int(np.isin(predictions[of_shared], sets.new).sum()),
        )

    def _champion_s_predictions(self) -> tuple[Sequence[str], str]:
        """The class that the champion predicts for each test photo, and where these predictions come from."""
        photos = self.photos
        if self.champion.same_test_photos:
            try:
                return read_predictions(self.champion.predictions(), photos.keys, list(photos.labels)), "logged"
            except PlumageError:
                pass  # the file is gone or damaged, or the photos were renamed: predict again
        folder, classes = self.champion.model(), self.challenger.classes
        return compute_predictions(folder, photos.dataset, photos.rows, classes, photos.names), "evaluated anew"

    def _leave_out(self) -> tuple[Figures, NDArray[np.bool_]]:
        """Which test photos are left out, as the champion was trained on them or a near-duplicate counts; and a mask of the others."""
        photos = self.photos
        try:
            same, near = seen_photos(self.champion.training_photos(), photos.dataset, photos.rows, photos.similarity)
        except PlumageError as error:
            unknown = f"which photos champion version {self.champion.version} was trained on is not known: {error}"
            keep = photos.one_per_group(np.ones(len(photos.rows), np.bool_))
            return {"checked": False, "why_not": unknown, "repeats": int((~keep).sum())}, keep
        seen = same | near
        keys = sorted(key for key, was_seen in zip(photos.keys, seen, strict=True) if was_seen)
        keep = photos.one_per_group(~seen)
        counts = {"same_photos": int(same.sum()), "near_duplicates": int(near.sum())}
        return {"checked": True, **counts, "keys": keys[:LISTED], "repeats": int((~seen & ~keep).sum())}, keep

    def _with_figures(self, verdict: Verdict, comparison: Comparison, where: str = "") -> Verdict:
        number = comparison.num_samples
        mine, theirs = (share(value, number) for value in (comparison.accuracy, comparison.champion_accuracy))
        figures = (
            f"{mine} against {theirs} of champion version {self.champion.version} on {plural(number, 'photo')}{where}"
        )
        return Verdict(verdict.passed, f"{figures}: {verdict.reason}")


def _as_json(sets: ClassSets) -> Figures:
    return {"shared": len(sets.shared), "new": list(sets.new[:LISTED]), "lost": list(sets.lost[:LISTED])}


def _comparison_json(comparison: Comparison, source: str) -> Figures:
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
