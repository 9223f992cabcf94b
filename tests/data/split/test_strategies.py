"""The split: a part for every photo, the same on every machine, disturbed as little as can be."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import PARTS, read_split, rows_hash, write_splits
from plumage.data.split.strategies import Photos, official_split, refuse_leaks, stratified_split
from plumage.errors import DataError


def photos(counts: dict[str, int], groups: Sequence[Sequence[str]] = ()) -> Photos:
    """So many photos a class, called a/0, a/1 ...; `groups` are keys of near-duplicates."""
    pairs = [(f"{label}/{number}", label) for label, count in counts.items() for number in range(count)]
    keys, labels = [key for key, _ in pairs], [label for _, label in pairs]
    ids = [hashlib.sha256(key.encode()).digest() for key in keys]
    return Photos(keys, labels, ids, [sorted(keys.index(key) for key in group) for group in groups])


def by_key(drawn: Photos, val: float, test: float, seed: int = 0) -> dict[str, str]:
    return dict(zip(drawn.keys, stratified_split(drawn, val, test, seed), strict=True))


@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=6), st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.integers(0, 99)
)
def test_every_class_of_three_or_more_has_a_photo_in_each_part(
    counts: list[int], val: float, test: float, seed: int
) -> None:
    drawn = photos({str(n): count for n, count in enumerate(counts)})
    parts = Counter(zip(drawn.labels, stratified_split(drawn, val, test, seed), strict=True))
    assert all(parts[label, part] >= 1 for label in set(drawn.labels) for part in PARTS)


@given(st.integers(0, 99), st.lists(st.integers(1, 8), min_size=4, max_size=30), st.floats(0.05, 0.4))
def test_a_group_of_near_duplicates_never_straddles_two_parts(seed: int, sizes: list[int], test: float) -> None:
    keys = iter(range(sum(sizes)))
    groups = [[f"a/{next(keys)}" for _ in range(size)] for size in sizes]
    drawn = photos({"a": sum(sizes), "b": 9}, groups)
    parts = by_key(drawn, 0.1, test, seed)
    assert all(len({parts[key] for key in group}) == 1 for group in groups)
    assert {parts[key] for key in parts if key.startswith("a/")} == set(PARTS)


def test_the_shares_are_test_of_all_then_val_of_the_rest() -> None:
    assert Counter(stratified_split(photos({"a": 400, "b": 200}), 0.05, 0.1, 0)) == {
        "test": 60, "val": 27, "train": 513,
    }  # fmt: skip


def test_shares_hold_with_groups_among_the_photos() -> None:
    groups = [[f"a/{first}", f"a/{first + 1}", f"a/{first + 2}"] for first in range(0, 300, 3)]
    counts = Counter(stratified_split(photos({"a": 600}, groups), 0.1, 0.2, 0))
    assert abs(counts["test"] - 120) <= 2 and abs(counts["val"] - 48) <= 2


def test_a_group_that_spans_classes_goes_to_train() -> None:
    for seed in range(20):
        parts = by_key(photos({"a": 10, "b": 10}, [["a/1", "b/1"]]), 0.3, 0.4, seed)
        assert parts["a/1"] == parts["b/1"] == "train"


def test_a_group_that_spans_classes_is_train_enough_for_them() -> None:
    parts = by_key(photos({"a": 3, "b": 9}, [["a/1", "b/1"]]), 0.3, 0.4, 0)
    assert sorted(part for key, part in parts.items() if key.startswith("a/")) == ["test", "train", "val"]


def test_a_class_with_fewer_than_three_photos_is_named() -> None:
    with pytest.raises(DataError, match="'BLUE JAY' has 2.*3 or more"):
        stratified_split(photos({"BLUE JAY": 2, "OWL": 9}), 0.05, 0.1, 0)
    with pytest.raises(DataError, match="'OWL' has 2.*near-duplicates"):
        stratified_split(photos({"OWL": 9}, [[f"OWL/{n}" for n in range(8)]]), 0.05, 0.1, 0)


def test_order_and_names_change_nothing_and_the_seed_does() -> None:
    drawn = photos({"a": 50, "b": 50}, [["a/1", "a/7"], ["b/0", "b/3", "b/9"]])
    backwards = Photos(
        drawn.keys[::-1],
        drawn.labels[::-1],
        drawn.ids[::-1],
        [sorted(99 - row for row in group) for group in drawn.groups],
    )
    renamed = drawn._replace(keys=[f"x{key}" for key in drawn.keys])
    parts = by_key(drawn, 0.1, 0.2)
    assert parts == by_key(backwards, 0.1, 0.2)
    assert list(parts.values()) == list(by_key(renamed, 0.1, 0.2).values())
    assert parts != by_key(drawn, 0.1, 0.2, seed=1)


@given(st.integers(10, 80), st.integers(1, 10), st.integers(0, 99))
def test_new_photos_move_none_of_another_class_and_in_their_own_what_rounding_needs(
    count: int, more: int, seed: int
) -> None:
    before = by_key(photos({"a": count, "b": 50}), 0.1, 0.2, seed)
    after = by_key(photos({"a": count + more, "b": 50}), 0.1, 0.2, seed)
    moved = [key for key in before if before[key] != after[key]]
    assert all(key.startswith("a/") for key in moved)
    # Each new photo can push one out of test or out of val; the parts themselves grow by less than one for each.
    assert len(moved) <= 2 * more


def test_official_keeps_the_given_parts_and_draws_the_missing_one_from_train() -> None:
    drawn = photos({"a": 30, "b": 30})
    given_parts = ["val" if key.endswith("0") else "train" for key in drawn.keys]
    parts, leaks = official_split(drawn, given_parts, {}, 0.05, 0.1, 0)
    assert [part == "val" for part in parts] == [part == "val" for part in given_parts]
    assert Counter(zip(drawn.labels, parts, strict=True)) == {
        (label, part): count for label in "ab" for part, count in {"train": 24, "val": 3, "test": 3}.items()
    }
    assert not leaks


def test_a_leak_is_told_with_its_photos_and_mended_by_leaving_out_of_train() -> None:
    drawn = photos({"a": 8}, [["a/0", "a/5"], ["a/1", "a/2"], ["a/3", "a/7"]])
    given_parts = ["train"] * 5 + ["test", "test", "val"]
    parts, leaks = official_split(drawn, given_parts, {}, 0.1, 0.1, 0)
    assert parts == ["unused", "train", "train", "unused", "train", "test", "test", "val"]
    assert [leak.photos for leak in leaks] == [[("a/0", "train"), ("a/5", "test")], [("a/3", "train"), ("a/7", "val")]]
    assert [leak.kept_in for leak in leaks] == ["test", "val"]
    with pytest.raises(DataError, match=r"2 pictures are in two parts[^$]*a/0 \(train\), a/5 \(test\)"):
        refuse_leaks(leaks)
    refuse_leaks([])


def test_the_exact_copy_of_a_train_photo_in_test_is_a_leak_and_test_keeps_it() -> None:
    drawn = photos({"a": 6})
    given_parts = ["train"] * 4 + ["val", "test"]
    parts, leaks = official_split(
        drawn, given_parts, {"a/0": [("t/9", "test")], "a/1": [("x/1", "train")]}, 0.1, 0.1, 0
    )
    assert parts == ["test", "train", "train", "train", "val", "test"]
    assert leaks[0].photos == [("a/0", "train"), ("t/9", "test")] and len(leaks) == 1


def test_official_without_a_train_part_is_an_error() -> None:
    with pytest.raises(DataError, match="without a train part"):
        official_split(photos({"a": 1}), [None], {}, 0.05, 0.1, 0)


def test_official_names_a_class_that_train_lacks() -> None:
    with pytest.raises(DataError, match="'b' has 0"):
        official_split(photos({"a": 3, "b": 1}), ["train", "train", "train", "val"], {}, 0.05, 0.1, 0)


def test_the_file_round_trips_and_one_of_other_photos_is_refused(
    color_dataset: Callable[[int], Dataset], tmp_path: Path
) -> None:
    dataset = color_dataset(5)
    ids = [row.tobytes() for row in dataset.bytes_column("sha256")]
    parts = stratified_split(Photos(dataset.keys, dataset.labels, ids, []), 0.2, 0.2, 0)
    parts[0] = "unused"
    write_splits(tmp_path / "splits.csv", dataset.keys, dataset.labels, parts)
    rows = read_split(tmp_path / "splits.csv", dataset)
    assert {part: [parts[row] for row in chosen] for part, chosen in rows.items()} == {
        part: [part] * parts.count(part) for part in PARTS
    }
    assert sum(map(len, rows.values())) == len(dataset) - 1
    assert (tmp_path / "splits.csv").read_text().splitlines()[0] == "key,label,split"
    write_splits(tmp_path / "splits.csv", dataset.keys[1:], dataset.labels[1:], parts[1:])
    with pytest.raises(DataError, match="other photos"):
        read_split(tmp_path / "splits.csv", dataset)


def test_the_hash_of_photos_is_of_what_they_are_not_of_their_order(color_dataset: Callable[[int], Dataset]) -> None:
    dataset = color_dataset(3)
    assert rows_hash(dataset, [0, 1, 2]) == rows_hash(dataset, [2, 0, 1])
    assert rows_hash(dataset, [0, 1, 2]) != rows_hash(dataset, [0, 1, 3])
