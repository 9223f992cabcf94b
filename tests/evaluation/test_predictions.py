"""Answers are read for the photos that they were given for, or not at all."""

from pathlib import Path

import numpy as np
import pytest

from plumage.errors import DataError
from plumage.evaluation.predictions import read_answers
from plumage.evaluation.tables import write_predictions

CLASSES = ["a, b", "NA", "c"]


def test_answers_come_back_in_the_order_asked_for_with_any_class_name(tmp_path: Path) -> None:
    probabilities = np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]], np.float32)
    write_predictions(tmp_path / "p.csv", ["z", "x", "y"], np.array([1, 1, 2]), probabilities, CLASSES)
    assert read_answers(tmp_path / "p.csv", ["x", "y", "z"], ["NA", "c", "NA"]) == ["a, b", "c", "NA"]


def test_other_photos_other_labels_and_no_table_are_one_line(tmp_path: Path) -> None:
    probabilities = np.eye(3, dtype=np.float32)
    write_predictions(tmp_path / "p.csv", ["x", "y", "z"], np.arange(3), probabilities, CLASSES)
    (tmp_path / "broken.csv").write_bytes(b"key,label\n\xff\xfe,")
    (tmp_path / "short.csv").write_text("key,label\nx,c\n")
    for name, keys, labels, told in (
        ("p.csv", ["x", "y"], ["a, b", "NA"], "of other photos"),
        ("p.csv", ["x", "y", "w"], CLASSES, "of other photos"),
        ("p.csv", ["x", "y", "z"], ["c", "NA", "c"], "of other photos or labels"),
        ("absent.csv", ["x"], ["c"], "no table of predictions"),
        ("broken.csv", ["x"], ["c"], "no table of predictions"),
        ("short.csv", ["x"], ["c"], "no table of predictions"),
    ):
        with pytest.raises(DataError, match=told) as error:
            read_answers(tmp_path / name, keys, labels)
        assert "\n" not in str(error.value)
