"""What a sample says of its photos."""

import numpy as np

from plumage.evaluation.sample import Sample


def test_of_equal_probabilities_the_first_class_is_predicted_everywhere():
    sample = Sample(np.array([0, 7]), np.full((2, 8), 1 / 8))
    assert sample.top_k(5)[0].tolist() == [0, 1, 2, 3, 4]
    assert sample.predicted.tolist() == [0, 0]
    assert sample.correct.tolist() == sample.in_top5.tolist() == [True, False]
