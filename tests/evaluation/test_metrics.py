"""Classes, pairs and bins, as scikit-learn counts them."""

import numpy as np
from sklearn import metrics as sk

from plumage.evaluation import metrics


def test_the_scores_of_each_class_agree_with_scikit_learn_where_some_have_no_photo(guesses):
    probabilities, labels = guesses(80, 60, skill=1.0)
    predicted = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predicted, 60)
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(labels, predicted, labels=range(60)))
    expected = sk.precision_recall_fscore_support(labels, predicted, labels=range(60), zero_division=0)
    scores = metrics.class_scores(confusion)
    assert (scores.support == 0).any()
    for ours, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs)


def test_confused_pairs_come_the_most_frequent_first():
    confusion = np.array([[5, 2, 0], [1, 4, 2], [0, 3, 6]])
    assert metrics.confused_pairs(confusion, 3) == [(2, 1, 3), (0, 1, 2), (1, 2, 2)]


def test_of_equal_probabilities_the_first_class_is_predicted_everywhere():
    probabilities, labels = np.full((2, 8), 1 / 8), np.array([0, 7])
    np.testing.assert_array_equal(metrics.top_k(probabilities, 5)[0], [0, 1, 2, 3, 4])
    assert metrics.accuracy(probabilities, labels) == 0.5


def test_a_confidence_on_an_edge_belongs_to_the_bin_below_and_one_just_over_1_to_the_last():
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25], [1.0000001, 0.0], [0.51, 0.49]])
    bins = metrics.reliability(probabilities, np.zeros(4, dtype=np.int64), bins=4)
    np.testing.assert_array_equal(bins.count, [0, 1, 2, 1])
