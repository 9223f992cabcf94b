"""Photos whose label is likely wrong, by confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068).

A probe predicts each photo from the photos of the other folds, so no photo vouches for its own label; near-duplicates share a
fold, so no copy does either. A photo is a suspect if the probe is as sure of another class as it is, on average, of that
class's own photos (the paper's confident joint, section 3.1). Suspects are ranked by the margin between the two classes
(the paper's normalized margin).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from plumage.common.paths import LABEL_ERRORS
from plumage.common.text import plural, some
from plumage.data.dataset.store import Dataset
from plumage.evaluation.sample import Floats, Ints
from plumage.training.probe import ProbeSettings, out_of_fold_probabilities

FOLDS = 5
NAMED = 5
"""The number of classes that a message names."""
MIN_PHOTOS = 5
"""Classes with fewer photos are not judged: a probe that sees three photos of a class takes the fourth for anything."""


class Suspect(NamedTuple):
    """A photo whose label is likely wrong."""

    key: str
    label: str
    suggested: str
    score: float  # 0 to 1, over 0.5 where the suggested class is more probable than the label


class LabelErrors(NamedTuple):
    """The suspects, the most likely first, and which classes' labels can't be judged."""

    suspects: list[Suspect]
    too_small: list[str]  # classes with fewer than MIN_PHOTOS photos
    not_told_apart: list[str]  # classes of which most photos look like another class: none is accused

    def lines(self) -> list[str]:
        """What was found, for people."""
        count = len(self.suspects)
        why_not = {
            f"fewer than {MIN_PHOTOS} photos": self.too_small,
            "most of their photos look like another class": self.not_told_apart,
        }
        then = f"{LABEL_ERRORS}; correct them with `plumage data relabel`" if count else str(LABEL_ERRORS)
        lines = [f"label errors: {plural(count, 'photo')} likely labelled wrong (see {then})"]
        lines += [f"label errors: not judged ({why}): {some(names, NAMED)}" for why, names in why_not.items() if names]
        return lines


class Labelled(NamedTuple):
    """N photos of C classes."""

    keys: Sequence[str]
    features: Floats  # N x F
    labels: Ints  # N, each 0 to C - 1
    classes: Sequence[str]
    groups: Ints | None = None  # N: near-duplicates share a number; None: no two photos are near-duplicates


def find_label_errors(photos: Labelled, seed: int = 0) -> LabelErrors:
    """Find the photos whose label is likely wrong. The same photos and seed give the same suspects."""
    names, count = photos.classes, len(photos.classes)
    units = _units(photos)
    sizes = Counter(label for label, _ in set(zip(photos.labels.tolist(), units.tolist(), strict=True)))
    small = np.array([0 < sizes[label] < MIN_PHOTOS for label in range(count)])
    too_small = [names[label] for label in np.flatnonzero(small).tolist()]
    if sum(size >= MIN_PHOTOS for size in sizes.values()) < 2:
        return LabelErrors([], too_small, [])
    probabilities = cross_validated(photos, seed)
    suggested, suspect = confident_errors(probabilities, photos.labels)
    suspect &= ~small[photos.labels]
    accused = np.bincount(photos.labels[suspect], minlength=count)
    unlike = accused > np.bincount(photos.labels, minlength=count) / 2
    suspect &= ~unlike[photos.labels]
    rows = np.flatnonzero(suspect)
    scores = margins(probabilities[rows], photos.labels[rows], suggested[rows])
    found = [
        Suspect(photos.keys[row], names[photos.labels[row]], names[suggested[row]], score)
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    ]
    found.sort(key=lambda each: (-each.score, each.key))
    return LabelErrors(found, too_small, [names[label] for label in np.flatnonzero(unlike).tolist()])


def label_errors_table(
    suspects: Sequence[Suspect], dataset: Dataset, rows: Mapping[str, Sequence[int]]
) -> pd.DataFrame:
    """reports/label_errors.csv: key, label, suggested, score, split; one row per suspect."""
    split_of = {dataset.keys[row]: split for split, chosen in rows.items() for row in chosen}
    table = pd.DataFrame(suspects, columns=Suspect._fields)
    return table.assign(split=[split_of[each.key] for each in suspects])


def cross_validated(photos: Labelled, seed: int) -> NDArray[np.float32]:
    """Each photo's class probabilities by a probe that saw neither it nor its near-duplicates: N x C."""
    folds = _folds(photos.labels, _units(photos), seed)
    features, labels = torch.from_numpy(photos.features), torch.from_numpy(np.asarray(photos.labels, np.int64))
    probabilities: NDArray[np.float32] = out_of_fold_probabilities(
        features, labels, torch.from_numpy(folds), len(photos.classes), ProbeSettings()
    ).numpy()
    return probabilities


def confident_errors(probabilities: Floats, labels: Ints) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The class that each photo looks like, N, and whether that makes it a suspect, N.

    A photo counts as of the most probable of the classes whose threshold it reaches: the mean probability of that class over
    the photos labelled so (equations 1 and 2 of the paper). As in cleanlab, a label that is the most probable class is right.
    """
    of_label = probabilities[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, weights=of_label, minlength=probabilities.shape[1])
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    likely: NDArray[np.int64] = reached.argmax(1)
    suspect = (reached.max(1) >= 0) & (likely != labels) & (probabilities.argmax(1) != labels)
    return likely, suspect


def margins(probabilities: Floats, labels: Ints, others: Ints) -> NDArray[np.float64]:
    """The margin of each photo's class `others` over its label, 0 to 1: 0.5 if both are as probable."""
    rows = np.arange(len(labels))
    difference = probabilities[rows, others].astype(np.float64) - probabilities[rows, labels]
    return np.asarray((1 + difference) / 2)


def _units(photos: Labelled) -> NDArray[np.int64]:
    """Each photo's unit, which near-duplicates share: the index of the first of them."""
    groups = np.arange(len(photos.keys)) if photos.groups is None else photos.groups
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    units: NDArray[np.int64] = first[number]
    return units


def _folds(labels: Ints, units: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Each photo's fold: the units of a class, in random order, are dealt out in turn."""
    first = np.unique(units)  # a unit's number is its first photo's index
    order = np.random.default_rng(seed).permutation(first)
    order = order[np.argsort(labels[order], kind="stable")]
    fold_of = np.zeros(len(labels), np.int64)
    fold_of[order] = np.arange(len(order)) % FOLDS
    return fold_of[units]
