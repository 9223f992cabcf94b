"""The split: a part for every photo, the same on every machine, disturbed as little as can be."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumage.data.split import official_split, read_split, rows_hash, stratified_split, write_splits
from plumage.data.store import Dataset
from plumage.errors import DataError


def photos(counts: dict[str, int]) -> tuple[list[str], list[str]]:
    pairs = [(f"{label}/{number}", label) for label, count in counts.items() for number in range(count)]
    return [key for key, _ in pairs], [label for _, label in pairs]


@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=6), st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.integers(0, 99)
)
def test_every_class_of_three_or_more_has_a_photo_in_each_part(
    counts: list[int], val: float, test: float, seed: int
) -> None:
    keys, labels = photos({str(n): count for n, count in enumerate(counts)})
    parts = Counter(zip(labels, stratified_split(keys, labels, val, test, seed), strict=True))
    assert all(parts[label, part] >= 1 for label in set(labels) for part in ("train", "val", "test"))


def test_the_shares_are_test_of_all_then_val_of_the_rest() -> None:
    keys, labels = photos({"a": 400, "b": 200})
    assert Counter(stratified_split(keys, labels, 0.05, 0.1, 0)) == {"test": 60, "val": 27, "train": 513}


def test_a_class_with_fewer_than_three_photos_is_named() -> None:
    keys, labels = photos({"BLUE JAY": 2, "OWL": 9})
    with pytest.raises(DataError, match="'BLUE JAY' has 2.*3 or more"):
        stratified_split(keys, labels, 0.05, 0.1, 0)


def test_order_changes_nothing_and_the_seed_does() -> None:
    keys, labels = photos({"a": 50, "b": 50})
    parts = dict(zip(keys, stratified_split(keys, labels, 0.1, 0.2, 0), strict=True))
    assert parts == dict(zip(keys[::-1], stratified_split(keys[::-1], labels[::-1], 0.1, 0.2, 0), strict=True))
    assert parts != dict(zip(keys, stratified_split(keys, labels, 0.1, 0.2, 1), strict=True))


def test_a_new_photo_moves_none_of_another_class_and_few_of_its_own() -> None:
    before_keys, before_labels = photos({"a": 50, "b": 50})
    after_keys, after_labels = photos({"a": 51, "b": 50})
    before = dict(zip(before_keys, stratified_split(before_keys, before_labels, 0.1, 0.2, 0), strict=True))
    after = dict(zip(after_keys, stratified_split(after_keys, after_labels, 0.1, 0.2, 0), strict=True))
    moved = [key for key in before if before[key] != after[key]]
    assert all(key.startswith("a/") for key in moved)
    assert len(moved) <= 4


def test_official_keeps_the_given_parts_and_draws_the_missing_one_from_train() -> None:
    keys, labels = photos({"a": 30, "b": 30})
    given_parts = ["val" if key.endswith("0") else "train" for key in keys]
    parts = official_split(keys, labels, given_parts, 0.05, 0.1, 0)
    assert [part == "val" for part in parts] == [part == "val" for part in given_parts]
    assert Counter(zip(labels, parts, strict=True)) == {
        (label, part): count for label in "ab" for part, count in {"train": 24, "val": 3, "test": 3}.items()
    }


def test_official_without_a_train_part_is_an_error() -> None:
    with pytest.raises(DataError, match="without a train part"):
        official_split(["a/1"], ["a"], [None], 0.05, 0.1, 0)


def test_official_names_a_class_that_train_lacks() -> None:
    with pytest.raises(DataError, match="'b' has 0"):
        official_split(
            ["a/1", "a/2", "a/3", "b/1"], ["a", "a", "a", "b"], ["train", "train", "train", "val"], 0.05, 0.1, 0
        )


def test_the_file_round_trips_and_one_of_other_photos_is_refused(
    color_dataset: Callable[[int], Dataset], tmp_path: Path
) -> None:
    dataset = color_dataset(5)
    parts = stratified_split(dataset.keys, dataset.labels, 0.2, 0.2, 0)
    write_splits(tmp_path / "splits.csv", dataset.keys, dataset.labels, parts)
    rows = read_split(tmp_path / "splits.csv", dataset)
    assert {part: [parts[row] for row in chosen] for part, chosen in rows.items()} == {
        "train": ["train"] * 12, "val": ["val"] * 4, "test": ["test"] * 4,
    }  # fmt: skip
    assert (tmp_path / "splits.csv").read_text().splitlines()[0] == "key,label,split"
    write_splits(tmp_path / "splits.csv", dataset.keys[1:], dataset.labels[1:], parts[1:])
    with pytest.raises(DataError, match="other photos"):
        read_split(tmp_path / "splits.csv", dataset)


def test_the_hash_of_photos_is_of_what_they_are_not_of_their_order(color_dataset: Callable[[int], Dataset]) -> None:
    dataset = color_dataset(3)
    assert rows_hash(dataset, [0, 1, 2]) == rows_hash(dataset, [2, 0, 1])
    assert rows_hash(dataset, [0, 1, 2]) != rows_hash(dataset, [0, 1, 3])
