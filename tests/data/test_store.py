"""The data set's files: the same photos give the same bytes, read in place from any file and row."""

from pathlib import Path

import pytest

from plumage.data import store
from plumage.data.photo import Photo
from plumage.data.store import Dataset, write_dataset
from plumage.errors import DataError

PHOTOS = [
    Photo(f"{n % 3}/{n}", str(n % 3), [None, "train", "val"][n % 3], bytes([n % 256]) * (n + 1)) for n in range(700)
]


def test_every_photo_comes_back_across_batches_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BYTES_PER_FILE", 30_000)
    assert write_dataset(tmp_path / "d", PHOTOS) == ["0", "1", "2"]
    assert len(list((tmp_path / "d").glob("images-*.arrow"))) == 3
    dataset = Dataset(tmp_path / "d")
    assert len(dataset) == len(PHOTOS)
    for row, photo in enumerate(PHOTOS):
        assert (dataset.keys[row], dataset.labels[row], dataset.parts[row]) == (photo.key, photo.label, photo.part)
        assert bytes(dataset.photo(row)) == photo.data
        assert dataset.classes[dataset.targets()[row]] == photo.label


def test_the_same_photos_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dataset(tmp_path / name, PHOTOS)
    files = [sorted((tmp_path / name).iterdir()) for name in ("a", "b")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_a_folder_that_is_no_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no data set"):
        Dataset(tmp_path)
