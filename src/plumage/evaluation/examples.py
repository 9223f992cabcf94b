"""Which test photos the report shows as examples. Photos go by their index, 0 to N - 1; of equals the earlier comes first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from plumage.evaluation.confusion import confused_pairs
from plumage.evaluation.sample import Floats, Sample


class Extremes(NamedTuple):
    """A class's photos with the highest and the lowest probability of the class."""

    label: int
    best: int
    worst: int | None  # None if the class has only one photo


class Pair(NamedTuple):
    """One kind of error: `num_errors` photos of class `actual` were predicted as `predicted`."""

    actual: int
    predicted: int
    num_errors: int
    confused: int  # one of those photos
    correct: int | None  # a correctly predicted photo of class `predicted`; None if there is none


class Examples(NamedTuple):
    """The photos to show."""

    mistakes: list[int]  # wrong predictions, the most confident first
    unsure: list[int]  # correct predictions, the least confident first
    extremes: list[Extremes]  # one per class, in class order
    pairs: list[Pair]  # the most frequent error first

    def to_look_at(self) -> set[int]:
        """The photos to see in detail: all but the extremes, of which there are many."""
        return {*self.mistakes, *self.unsure, *_shown(self.pairs)}

    def indices(self) -> list[int]:
        """All photos, each once, in ascending order."""
        return sorted({*self.to_look_at(), *_shown(self.extremes)})


def _shown(entries: Sequence[Extremes] | Sequence[Pair]) -> list[int]:
    return [photo for entry in entries for photo in (entry[-2], entry[-1]) if photo is not None]


def spread_first(first: NDArray[np.int64], others: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` photos in ascending order: `first`, then of the `others` as many as there is room for, evenly spread over them."""

    def spread(photos: NDArray[np.int64], room: int) -> NDArray[np.int64]:
        return photos[np.unique(np.linspace(0, len(photos) - 1, min(len(photos), room)).round().astype(int))]

    chosen = spread(first, most)
    return np.sort(np.concatenate([chosen, spread(others, most - len(chosen))]))


def choose_examples(sample: Sample, *, photos: int, pairs: int, classes: int) -> Examples:
    """At most `photos` mistakes and as many unsure photos, `pairs` pairs, and the extremes of the `classes` with the lowest recall.

    A pair shows its most confident error, beside the other class's photo with the highest probability of its label.
    """
    labels, predicted, confidence = sample.labels, sample.predicted, sample.confidence
    label_probability = sample.probabilities[np.arange(len(sample)), labels]
    wrong, correct = np.flatnonzero(~sample.correct), np.flatnonzero(sample.correct)

    by_class = np.lexsort((-label_probability, labels))  # class by class, the most probable first
    support = np.bincount(labels, minlength=sample.num_classes)
    first = np.cumsum(support) - support
    recall = np.bincount(labels[correct], minlength=sample.num_classes) / np.maximum(support, 1)
    tested = np.flatnonzero(support)
    chosen = np.sort(tested[np.argsort(recall[tested], kind="stable")][:classes])

    def extremes(label: int) -> Extremes:
        own = by_class[first[label] : first[label] + support[label]]
        return Extremes(label, int(own[0]), int(own[-1]) if len(own) > 1 else None)

    def pair(actual: int, other: int, num_errors: int) -> Pair:
        confused = _highest(confidence, wrong[(labels[wrong] == actual) & (predicted[wrong] == other)])
        candidates = correct[labels[correct] == other]
        shown = _highest(label_probability, candidates) if len(candidates) else None
        return Pair(actual, other, num_errors, confused, shown)

    confusion = confusion_matrix(labels, predicted, labels=np.arange(sample.num_classes))
    return Examples(
        mistakes=wrong[np.argsort(-confidence[wrong], kind="stable")][:photos].tolist(),
        unsure=correct[np.argsort(confidence[correct], kind="stable")][:photos].tolist(),
        extremes=[extremes(label) for label in chosen.tolist()],
        pairs=[pair(*found) for found in confused_pairs(confusion, pairs)],
    )


def _highest(values: Floats, photos: NDArray[np.int64]) -> int:
    return int(photos[values[photos].argmax()])
