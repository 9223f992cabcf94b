"""What a confusion matrix (C x C counts; row: actual class, column: predicted class) says about pairs of classes."""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from plumage.evaluation.sample import Ints


def confused_pairs(confusion: Ints, limit: int) -> list[tuple[int, int, int]]:
    """(actual, predicted, count) of the `limit` most frequent kinds of error, the most frequent first; ties in class order."""
    errors = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-errors, axis=None, kind="stable")[: min(limit, np.count_nonzero(errors))]
    cells = zip(*np.unravel_index(order, errors.shape), strict=True)
    return [(int(i), int(j), int(errors[i, j])) for i, j in cells]


def most_confused(confusion: Ints, limit: int, gap: float) -> tuple[list[int], list[int]]:
    """The actual and the predicted classes of the `limit` most frequent kinds of error, but for those within `gap` of one before."""
    actual: list[int] = []
    predicted: list[int] = []
    for row, column, _ in confused_pairs(confusion, limit):
        for number, chosen in ((row, actual), (column, predicted)):
            if all(abs(number - other) >= gap for other in chosen):
                chosen.append(number)
    return actual, predicted


def confusion_order(confusion: Ints) -> NDArray[np.int64]:
    """The C classes in an order that makes neighbours of classes confused with each other.

    It is the leaf order of an average-linkage tree, with optimal leaf ordering (Bar-Joseph et al. 2001); 1,000 classes take seconds. Two
    classes' similarity is the mean share of each one's photos predicted as the other. Classes without confusion come last, in class order.
    """
    errors = confusion - np.diag(confusion.diagonal())
    shares = errors / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    similarity = (shares + shares.T) / 2
    confused = np.flatnonzero(similarity.any(axis=1))
    if len(confused):
        distances = squareform(1 - similarity[np.ix_(confused, confused)], checks=False)
        confused = confused[leaves_list(linkage(distances, "average", optimal_ordering=True))]
    return np.concatenate([confused, np.flatnonzero(~similarity.any(axis=1))]).astype(np.int64)
