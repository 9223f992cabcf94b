"""Which photos are shown, worked out by hand."""

import numpy as np

from plumage.evaluation.examples import Extremes, Gallery, Pair, choose_photos

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1, 0.0],  # 0: right
        [0.2, 0.7, 0.1, 0.0],  # 1: taken for 1
        [0.1, 0.9, 0.0, 0.0],  # 2: taken for 1, surer
        [0.3, 0.4, 0.3, 0.0],  # 3: right, unsure
        [0.1, 0.9, 0.0, 0.0],  # 4: right
        [0.0, 0.6, 0.4, 0.0],  # 5: taken for 1
        [0.1, 0.2, 0.7, 0.0],  # 6: right
        [0.0, 0.3, 0.7, 0.0],  # 7: right, as sure as 6
    ]
)


def test_mistakes_are_by_confidence_and_hits_by_doubt_and_of_equals_the_first_comes_first() -> None:
    chosen = choose_photos(LABELS, PROBABILITIES, photos=10, pairs=10, classes=10)
    assert chosen.mistakes == [2, 1, 5]
    assert chosen.unsure == [3, 6, 7, 0, 4]
    few = choose_photos(LABELS, PROBABILITIES, photos=2, pairs=10, classes=10)
    assert (few.mistakes, few.unsure) == ([2, 1], [3, 6])


def test_each_class_s_best_and_worst_are_by_the_probability_of_the_label() -> None:
    chosen = choose_photos(LABELS, PROBABILITIES, photos=1, pairs=1, classes=10)
    assert chosen.extremes == [Extremes(0, 0, 2), Extremes(1, 4, 3), Extremes(2, 6, 5)], (
        "none of class 3, which has no photo"
    )


def test_of_many_classes_those_of_the_lowest_recall_are_shown_in_class_order() -> None:
    chosen = choose_photos(LABELS, PROBABILITIES, photos=1, pairs=1, classes=2)
    assert [class_.label for class_ in chosen.extremes] == [0, 2]


def test_a_confused_pair_is_shown_by_its_surest_mistake_and_the_surest_photo_of_the_other_class() -> None:
    chosen = choose_photos(LABELS, PROBABILITIES, photos=1, pairs=10, classes=10)
    assert chosen.pairs == [Pair(0, 1, 2, 2, 4), Pair(2, 1, 1, 5, 4)]
    assert choose_photos(LABELS, PROBABILITIES, photos=1, pairs=1, classes=1).pairs == [Pair(0, 1, 2, 2, 4)]


def test_a_class_of_one_photo_has_no_worst_and_one_that_is_never_right_shows_no_other_side() -> None:
    labels, probabilities = np.array([0, 1]), np.array([[0.2, 0.8], [0.9, 0.1]])
    chosen = choose_photos(labels, probabilities, photos=5, pairs=5, classes=5)
    assert chosen.extremes == [Extremes(0, 0, None), Extremes(1, 1, None)]
    assert chosen.pairs == [Pair(0, 1, 1, 0, None), Pair(1, 0, 1, 1, None)]
    assert chosen.shown() == [0, 1]


def test_a_perfect_model_has_no_mistakes_and_every_photo_is_listed_once() -> None:
    chosen = choose_photos(np.array([0, 1, 1]), np.eye(2)[[0, 1, 1]], photos=5, pairs=5, classes=5)
    assert chosen == Gallery([], [0, 1, 2], [Extremes(0, 0, None), Extremes(1, 1, 2)], [])
    assert chosen.shown() == [0, 1, 2]
