"""The split: one for each photo, the same on every machine, and stable when photos come and go."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumage.data.dataset.store import Dataset
from plumage.data.split.official import official_split, refuse_leaks
from plumage.data.split.splits_file import SPLITS, read_split, rows_hash, write_splits
from plumage.data.split.stratified import Photos, stratified_split
from plumage.errors import DataError


def photos(counts: dict[str, int], groups: Sequence[Sequence[str]] = ()) -> Photos:
    """Photos a/0, a/1 ... by the number per class; `groups` are keys of near-duplicates."""
    pairs = [(f"{label}/{number}", label) for label, count in counts.items() for number in range(count)]
    keys, labels = [key for key, _ in pairs], [label for _, label in pairs]
    ids = [hashlib.sha256(key.encode()).digest() for key in keys]
    return Photos(keys, labels, ids, [sorted(keys.index(key) for key in group) for group in groups])


def by_key(drawn: Photos, val: float, test: float, seed: int = 0) -> dict[str, str]:
    return dict(zip(drawn.keys, stratified_split(drawn, val, test, seed), strict=True))


@given(
    st.lists(st.integers(3, 60), min_size=1, max_size=6), st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.integers(0, 99)
)
def test_every_class_of_three_or_more_has_a_photo_in_each_split(
    counts: list[int], val: float, test: float, seed: int
) -> None:
    drawn = photos({str(n): count for n, count in enumerate(counts)})
    splits = Counter(zip(drawn.labels, stratified_split(drawn, val, test, seed), strict=True))
    assert all(splits[label, split] >= 1 for label in set(drawn.labels) for split in SPLITS)


@given(st.integers(0, 99), st.lists(st.integers(1, 8), min_size=4, max_size=30), st.floats(0.05, 0.4))
def test_near_duplicates_never_straddle_two_splits(seed: int, sizes: list[int], test: float) -> None:
    keys = iter(range(sum(sizes)))
    groups = [[f"a/{next(keys)}" for _ in range(size)] for size in sizes]
    drawn = photos({"a": sum(sizes), "b": 9}, groups)
    splits = by_key(drawn, 0.1, test, seed)
    assert all(len({splits[key] for key in group}) == 1 for group in groups)
    assert {splits[key] for key in splits if key.startswith("a/")} == set(SPLITS)


def test_the_shares_are_test_of_all_and_val_of_the_rest() -> None:
    assert Counter(stratified_split(photos({"a": 400, "b": 200}), 0.05, 0.1, 0)) == {
        "test": 60, "val": 27, "train": 513,
    }  # fmt: skip


def test_shares_hold_with_groups_among_the_photos() -> None:
    groups = [[f"a/{first}", f"a/{first + 1}", f"a/{first + 2}"] for first in range(0, 300, 3)]
    counts = Counter(stratified_split(photos({"a": 600}, groups), 0.1, 0.2, 0))
    assert abs(counts["test"] - 120) <= 2 and abs(counts["val"] - 48) <= 2


def test_a_group_that_spans_classes_goes_to_train() -> None:
    for seed in range(20):
        splits = by_key(photos({"a": 10, "b": 10}, [["a/1", "b/1"]]), 0.3, 0.4, seed)
        assert splits["a/1"] == splits["b/1"] == "train"


def test_a_group_that_spans_classes_counts_as_their_train_photo() -> None:
    splits = by_key(photos({"a": 3, "b": 9}, [["a/1", "b/1"]]), 0.3, 0.4, 0)
    assert sorted(split for key, split in splits.items() if key.startswith("a/")) == ["test", "train", "val"]


def test_a_class_with_fewer_than_three_photos_is_named() -> None:
    with pytest.raises(DataError, match="'BLUE JAY' has 2.*3 or more"):
        stratified_split(photos({"BLUE JAY": 2, "OWL": 9}), 0.05, 0.1, 0)
    with pytest.raises(DataError, match="'OWL' has 2.*near-duplicates"):
        stratified_split(photos({"OWL": 9}, [[f"OWL/{n}" for n in range(8)]]), 0.05, 0.1, 0)


def test_the_seed_changes_the_split_and_order_and_names_do_not() -> None:
    drawn = photos({"a": 50, "b": 50}, [["a/1", "a/7"], ["b/0", "b/3", "b/9"]])
    backwards = Photos(
        drawn.keys[::-1],
        drawn.labels[::-1],
        drawn.ids[::-1],
        [sorted(99 - row for row in group) for group in drawn.groups],
    )
    renamed = drawn._replace(keys=[f"x{key}" for key in drawn.keys])
    splits = by_key(drawn, 0.1, 0.2)
    assert splits == by_key(backwards, 0.1, 0.2)
    assert list(splits.values()) == list(by_key(renamed, 0.1, 0.2).values())
    assert splits != by_key(drawn, 0.1, 0.2, seed=1)


@given(st.integers(10, 80), st.integers(1, 10), st.integers(0, 99))
def test_new_photos_move_none_of_another_class_and_few_of_their_own(count: int, more: int, seed: int) -> None:
    before = by_key(photos({"a": count, "b": 50}), 0.1, 0.2, seed)
    after = by_key(photos({"a": count + more, "b": 50}), 0.1, 0.2, seed)
    moved = [key for key in before if before[key] != after[key]]
    assert all(key.startswith("a/") for key in moved)
    # Each new photo can push one out of test and one out of val; the splits themselves grow by less than one each.
    assert len(moved) <= 2 * more


def test_official_keeps_its_splits_and_draws_a_missing_one_from_train() -> None:
    drawn = photos({"a": 30, "b": 30})
    official = ["val" if key.endswith("0") else "train" for key in drawn.keys]
    splits, leaks = official_split(drawn, official, {}, 0.05, 0.1, 0)
    assert [split == "val" for split in splits] == [split == "val" for split in official]
    assert Counter(zip(drawn.labels, splits, strict=True)) == {
        (label, split): count for label in "ab" for split, count in {"train": 24, "val": 3, "test": 3}.items()
    }
    assert not leaks


def test_a_leak_is_listed_and_repaired_by_leaving_photos_out_of_train() -> None:
    drawn = photos({"a": 8}, [["a/0", "a/5"], ["a/1", "a/2"], ["a/3", "a/7"]])
    official = ["train"] * 5 + ["test", "test", "val"]
    splits, leaks = official_split(drawn, official, {}, 0.1, 0.1, 0)
    assert splits == ["unused", "train", "train", "unused", "train", "test", "test", "val"]
    assert [leak.photos for leak in leaks] == [[("a/0", "train"), ("a/5", "test")], [("a/3", "train"), ("a/7", "val")]]
    assert [leak.kept_in for leak in leaks] == ["test", "val"]
    with pytest.raises(DataError, match=r"2 pictures are in several splits[^$]*a/0 \(train\), a/5 \(test\)"):
        refuse_leaks(leaks)
    refuse_leaks([])


def test_the_exact_copy_of_a_train_photo_in_test_is_a_leak_and_test_keeps_it() -> None:
    drawn = photos({"a": 6})
    official = ["train"] * 4 + ["val", "test"]
    splits, leaks = official_split(drawn, official, {"a/0": [("t/9", "test")], "a/1": [("x/1", "train")]}, 0.1, 0.1, 0)
    assert splits == ["test", "train", "train", "train", "val", "test"]
    assert leaks[0].photos == [("a/0", "train"), ("t/9", "test")] and len(leaks) == 1


def test_official_without_a_train_split_is_an_error() -> None:
    with pytest.raises(DataError, match="no train split"):
        official_split(photos({"a": 1}), [None], {}, 0.05, 0.1, 0)


def test_official_names_a_class_that_train_lacks() -> None:
    with pytest.raises(DataError, match="'b' has 0"):
        official_split(photos({"a": 3, "b": 1}), ["train", "train", "train", "val"], {}, 0.05, 0.1, 0)


def test_splits_csv_round_trips_and_one_of_other_photos_is_refused(
    color_dataset: Callable[[int], Dataset], tmp_path: Path
) -> None:
    dataset = color_dataset(5)
    ids = [row.tobytes() for row in dataset.bytes_column("sha256")]
    splits = stratified_split(Photos(dataset.keys, dataset.labels, ids, []), 0.2, 0.2, 0)
    splits[0] = "unused"
    write_splits(tmp_path / "splits.csv", dataset.keys, dataset.labels, splits)
    _, rows = read_split(tmp_path / "splits.csv", dataset)
    assert {split: [splits[row] for row in chosen] for split, chosen in rows.items()} == {
        split: [split] * splits.count(split) for split in SPLITS
    }
    assert sum(map(len, rows.values())) == len(dataset) - 1
    assert (tmp_path / "splits.csv").read_text().splitlines()[0] == "key,label,split"
    write_splits(tmp_path / "splits.csv", dataset.keys[1:], dataset.labels[1:], splits[1:])
    with pytest.raises(DataError, match="other photos"):
        read_split(tmp_path / "splits.csv", dataset)
    write_splits(tmp_path / "splits.csv", dataset.keys, dataset.labels, ["tes", *splits[1:]])
    with pytest.raises(DataError, match=r"has the split 'tes'; takes train, val, test; run `dvc repro split`"):
        read_split(tmp_path / "splits.csv", dataset)
    (tmp_path / "splits.csv").write_bytes(bytes(4096) + b"\xff")
    with pytest.raises(DataError, match="can't be read"):
        read_split(tmp_path / "splits.csv", dataset)


def test_the_hash_of_photos_depends_on_content_and_not_on_order(color_dataset: Callable[[int], Dataset]) -> None:
    dataset = color_dataset(3)
    assert rows_hash(dataset, [0, 1, 2]) == rows_hash(dataset, [2, 0, 1])
    assert rows_hash(dataset, [0, 1, 2]) != rows_hash(dataset, [0, 1, 3])
