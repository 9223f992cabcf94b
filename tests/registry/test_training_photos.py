"""A model's training photos are found again among others, by their bytes and by their looks, and by nothing else."""

from pathlib import Path

import numpy as np
import pytest
from altered import resaved
from support import make_dataset

from plumage.data.dataset.store import Dataset
from plumage.data.sources.photo import Photo
from plumage.data.sources.sample import draw_photo
from plumage.errors import DataError
from plumage.registry.training_photos import seen_photos, write_training_photos


def drawn(folder: Path, first: int, count: int, quality: int = 95) -> Dataset:
    """Birds number `first` and on, as a data set."""
    return make_dataset(
        folder,
        [
            Photo(f"{number}.jpg", "owl", None, resaved(draw_photo(0, 0, number, 96), quality))
            for number in range(first, first + count)
        ],
    )


def test_the_same_and_the_changed_photo_are_told_apart_and_new_ones_are_not_seen(tmp_path: Path) -> None:
    learned = drawn(tmp_path / "learned", 0, 20)
    write_training_photos(tmp_path / "photos.parquet", learned, range(20))
    again = drawn(tmp_path / "again", 15, 10)
    same, near = seen_photos(tmp_path / "photos.parquet", again, range(10), 0.94)
    assert same.tolist() == [True] * 5 + [False] * 5 and not near.any()
    worse = drawn(tmp_path / "worse", 15, 10, quality=50)
    same, near = seen_photos(tmp_path / "photos.parquet", worse, range(10), 0.94)
    assert not same.any() and near.tolist() == [True] * 5 + [False] * 5
    assert not np.any(seen_photos(tmp_path / "photos.parquet", worse, range(10), None))
    assert seen_photos(tmp_path / "photos.parquet", worse, [9, 0], 0.94)[1].tolist() == [False, True]


def test_only_the_rows_asked_for_are_written_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    dataset = drawn(tmp_path / "dataset", 0, 10)
    for name in ("one", "two"):
        write_training_photos(tmp_path / name, dataset, [1, 3])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    same, _ = seen_photos(tmp_path / "one", dataset, range(10), None)
    assert np.flatnonzero(same).tolist() == [1, 3]


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    dataset = drawn(tmp_path / "dataset", 0, 3)
    (tmp_path / "empty.parquet").write_text("")
    pq.write_table(pa.table({"sha256": ["no bytes"]}), tmp_path / "other.parquet")
    for name in ("absent.parquet", "empty.parquet", "other.parquet"):
        with pytest.raises(DataError, match=name) as error:
            seen_photos(tmp_path / name, dataset, range(3), 0.94)
        assert "\n" not in str(error.value)
