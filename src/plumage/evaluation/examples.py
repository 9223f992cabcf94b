"""Which test photos are worth a look. Photos are by their place, 0..N-1; of equals the earlier comes first."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plumage.evaluation.metrics import Floats, Ints, confused_pairs, confusion_matrix


class Extremes(NamedTuple):
    """A class's photo of the highest probability of the class, and that of the lowest, None where there is only one photo."""

    label: int
    best: int
    worst: int | None


class Pair(NamedTuple):
    """An error that is made `times` times: a photo of class `actual` that was taken for `predicted`, and one of `predicted` that was
    not mistaken, None where all were.
    """

    actual: int
    predicted: int
    times: int
    confused: int
    right: int | None


class Gallery(NamedTuple):
    """What to show."""

    mistakes: list[int]
    """The wrong photos with the most probable predictions, the most probable first."""
    unsure: list[int]
    """The right ones with the least probable predictions, the least probable first."""
    extremes: list[Extremes]
    """A class each, in class order."""
    pairs: list[Pair]
    """The most frequent first."""

    def shown(self) -> list[int]:
        """All photos, each once, in ascending order."""
        several = [*self.extremes, *self.pairs]
        photos = [photo for entry in several for photo in (entry[-2], entry[-1]) if photo is not None]
        return sorted({*self.mistakes, *self.unsure, *photos})


def choose_photos(labels: Ints, probabilities: Floats, *, photos: int, pairs: int, classes: int) -> Gallery:
    """What to show of N photos with probabilities N x C: at most `photos` mistakes and as many unsure hits, `pairs` pairs, and the
    extremes of `classes` classes, those of the lowest recall.

    A pair is shown by its most confident mistake, beside the surest photo of the other class.
    """
    predicted, count = probabilities.argmax(axis=1), probabilities.shape[1]
    top, of_label = probabilities.max(axis=1), probabilities[np.arange(len(labels)), labels]
    wrong, right = np.flatnonzero(predicted != labels), np.flatnonzero(predicted == labels)

    by_class = np.lexsort((-of_label, labels))  # the surest first, class after class
    support = np.bincount(labels, minlength=count)
    first = np.cumsum(support) - support
    recall = np.bincount(labels[right], minlength=count) / np.maximum(support, 1)
    tested = np.flatnonzero(support)
    chosen = np.sort(tested[np.argsort(recall[tested], kind="stable")][:classes])

    def extremes(label: int) -> Extremes:
        own = by_class[first[label] : first[label] + support[label]]
        return Extremes(label, int(own[0]), int(own[-1]) if len(own) > 1 else None)

    def pair(actual: int, taken_for: int, times: int) -> Pair:
        confused = _highest(top, wrong[(labels[wrong] == actual) & (predicted[wrong] == taken_for)])
        others = right[labels[right] == taken_for]
        return Pair(actual, taken_for, times, confused, _highest(of_label, others) if len(others) else None)

    return Gallery(
        mistakes=wrong[np.argsort(-top[wrong], kind="stable")][:photos].tolist(),
        unsure=right[np.argsort(top[right], kind="stable")][:photos].tolist(),
        extremes=[extremes(label) for label in chosen.tolist()],
        pairs=[pair(*found) for found in confused_pairs(confusion_matrix(labels, predicted, count), pairs)],
    )


def _highest(values: Floats, photos: NDArray[np.int64]) -> int:
    return int(photos[values[photos].argmax()])
