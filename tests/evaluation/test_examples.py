"""The choice of example photos, by hand."""

import numpy as np

from plumage.evaluation.examples import Examples, Extremes, Pair, choose_examples
from plumage.evaluation.sample import Sample

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1, 0.0],  # 0: correct
        [0.2, 0.7, 0.1, 0.0],  # 1: predicted 1
        [0.1, 0.9, 0.0, 0.0],  # 2: predicted 1, more confident
        [0.3, 0.4, 0.3, 0.0],  # 3: correct, unsure
        [0.1, 0.9, 0.0, 0.0],  # 4: correct
        [0.0, 0.6, 0.4, 0.0],  # 5: predicted 1
        [0.1, 0.2, 0.7, 0.0],  # 6: correct
        [0.0, 0.3, 0.7, 0.0],  # 7: correct, as confident as 6
    ]
)
SAMPLE = Sample(LABELS, PROBABILITIES)


def test_mistakes_start_with_the_most_confident_and_unsure_photos_with_the_least_ties_in_order() -> None:
    chosen = choose_examples(SAMPLE, photos=10, pairs=10, classes=10)
    assert chosen.mistakes == [2, 1, 5]
    assert chosen.unsure == [3, 6, 7, 0, 4]
    few = choose_examples(SAMPLE, photos=2, pairs=10, classes=10)
    assert (few.mistakes, few.unsure) == ([2, 1], [3, 6])


def test_a_class_s_best_and_worst_photo_have_its_highest_and_lowest_probability() -> None:
    chosen = choose_examples(SAMPLE, photos=1, pairs=1, classes=10)
    assert chosen.extremes == [Extremes(0, 0, 2), Extremes(1, 4, 3), Extremes(2, 6, 5)], "class 3 has no photo"


def test_of_many_classes_those_with_the_lowest_recall_are_shown_in_class_order() -> None:
    chosen = choose_examples(SAMPLE, photos=1, pairs=1, classes=2)
    assert [class_.label for class_ in chosen.extremes] == [0, 2]


def test_a_pair_shows_its_most_confident_error_and_the_best_photo_of_the_other_class() -> None:
    chosen = choose_examples(SAMPLE, photos=1, pairs=10, classes=10)
    assert chosen.pairs == [Pair(0, 1, 2, 2, 4), Pair(2, 1, 1, 5, 4)]
    assert choose_examples(SAMPLE, photos=1, pairs=1, classes=1).pairs == [Pair(0, 1, 2, 2, 4)]


def test_a_class_of_one_photo_has_no_worst_and_one_without_correct_photos_no_counterpart() -> None:
    labels, probabilities = np.array([0, 1]), np.array([[0.2, 0.8], [0.9, 0.1]])
    chosen = choose_examples(Sample(labels, probabilities), photos=5, pairs=5, classes=5)
    assert chosen.extremes == [Extremes(0, 0, None), Extremes(1, 1, None)]
    assert chosen.pairs == [Pair(0, 1, 1, 0, None), Pair(1, 0, 1, 1, None)]
    assert chosen.indices() == [0, 1]


def test_a_perfect_model_has_no_mistakes_and_every_photo_is_listed_once() -> None:
    chosen = choose_examples(Sample(np.array([0, 1, 1]), np.eye(2)[[0, 1, 1]]), photos=5, pairs=5, classes=5)
    assert chosen == Examples([], [0, 1, 2], [Extremes(0, 0, None), Extremes(1, 1, 2)], [])
    assert chosen.indices() == [0, 1, 2]
