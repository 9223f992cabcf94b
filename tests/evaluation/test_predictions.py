"""Predictions are read only for the photos they were made for."""

from pathlib import Path

import numpy as np
import pytest

from plumage.errors import DataError
from plumage.evaluation.predictions import read_predictions
from plumage.evaluation.sample import Sample
from plumage.evaluation.tables import predictions_table, write_table

CLASSES = ["a, b", "NA", "c"]


def write(path: Path, keys: list[str], sample: Sample) -> None:
    write_table(path, predictions_table(sample, keys, CLASSES))


def test_predictions_come_back_in_the_order_of_the_keys_with_any_class_name(tmp_path: Path) -> None:
    probabilities = np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1], [0.2, 0.2, 0.6]], np.float32)
    write(tmp_path / "p.csv", ["z", "x", "y"], Sample(np.array([1, 1, 2]), probabilities))
    assert read_predictions(tmp_path / "p.csv", ["x", "y", "z"], ["NA", "c", "NA"]) == ["a, b", "c", "NA"]


def test_other_photos_other_labels_and_broken_files_are_errors_of_one_line(tmp_path: Path) -> None:
    probabilities = np.eye(3, dtype=np.float32)
    write(tmp_path / "p.csv", ["x", "y", "z"], Sample(np.arange(3), probabilities))
    (tmp_path / "broken.csv").write_bytes(b"key,label\n\xff\xfe,")
    (tmp_path / "short.csv").write_text("key,label\nx,c\n")
    for name, keys, labels, told in (
        ("p.csv", ["x", "y"], ["a, b", "NA"], "other photos"),
        ("p.csv", ["x", "y", "w"], CLASSES, "other photos"),
        ("p.csv", ["x", "y", "z"], ["c", "NA", "c"], "other photos or labels"),
        ("absent.csv", ["x"], ["c"], "not a table of predictions"),
        ("broken.csv", ["x"], ["c"], "not a table of predictions"),
        ("short.csv", ["x"], ["c"], "not a table of predictions"),
    ):
        with pytest.raises(DataError, match=told) as error:
            read_predictions(tmp_path / name, keys, labels)
        assert "\n" not in str(error.value)
