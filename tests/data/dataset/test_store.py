"""The data set's files: the same photos give the same bytes, and any process can read any row in place."""

import hashlib
from multiprocessing import get_context
from pathlib import Path

import pytest
from support import make_dataset, make_photo

from plumage.data.dataset import store
from plumage.data.dataset.store import Dataset, leave_out
from plumage.data.sources.photo import Photo
from plumage.errors import DataError

PHOTOS = [
    Photo(f"{n % 3}/{n:03d}.jpg", str(n % 3), [None, "train", "val"][n % 3], make_photo((n % 256, 80, 90), n, (20, 16)))
    for n in range(300)
]


def test_every_photo_round_trips_across_batches_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BYTES_PER_FILE", 100_000)
    dataset = make_dataset(tmp_path / "d", PHOTOS)
    assert len(list((tmp_path / "d").glob("images-*.arrow"))) > 2
    assert dataset.classes == ["0", "1", "2"] and len(dataset) == len(PHOTOS)
    hashes = dataset.bytes_column("sha256")
    for row, photo in enumerate(PHOTOS):
        assert (dataset.keys[row], dataset.labels[row], dataset.official_splits[row]) == (
            photo.key,
            photo.label,
            photo.split,
        )
        assert bytes(dataset.photo(row)) == photo.data
        assert dataset.classes[dataset.targets()[row]] == photo.label
        assert hashes[row].tobytes() == hashlib.sha256(photo.data).digest()
    assert set(dataset.column("width")) == {20} and set(dataset.column("height")) == {16}
    assert dataset.sizes() == [len(photo.data) for photo in PHOTOS]


def test_the_same_photos_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_dataset(tmp_path / name, PHOTOS)
    files = [sorted((tmp_path / name).iterdir()) for name in ("a", "b")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_left_out_rows_are_gone_from_the_files(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d", PHOTOS)
    leave_out(tmp_path / "d", {0, 70, 299})
    assert Dataset(tmp_path / "d").keys == [key for row, key in enumerate(dataset.keys) if row not in (0, 70, 299)]
    everything = b"".join(file.read_bytes() for file in (tmp_path / "d").iterdir())
    assert PHOTOS[70].data not in everything and PHOTOS[71].data in everything


def test_other_processes_read_it_in_place(tmp_path: Path) -> None:
    make_dataset(tmp_path / "d", PHOTOS)
    with get_context("spawn").Pool(2) as pool:
        assert pool.map(_photo, [(tmp_path / "d", row) for row in (5, 250)]) == [PHOTOS[5].data, PHOTOS[250].data]


def _photo(folder_and_row: tuple[Path, int]) -> bytes:
    folder, row = folder_and_row
    return bytes(Dataset(folder).photo(row))


def test_a_folder_that_is_not_a_data_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a data set"):
        Dataset(tmp_path)


def test_a_damaged_data_set_is_an_error_and_never_a_crash(tmp_path: Path) -> None:
    """Zeroed bytes, as of a page that a disk lost, in the lengths and names of the photos."""
    make_dataset(tmp_path / "d", PHOTOS[:40])
    [file] = (tmp_path / "d").glob("images-*.arrow")
    whole, refused = file.read_bytes(), 0
    for start in range(0, min(len(whole), 12_000), 150):
        file.write_bytes(whole[:start] + bytes(150) + whole[start + 150 :])
        try:
            Dataset(tmp_path / "d").targets()
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 5


@pytest.mark.parametrize("classes", ["{}", "[1]", '["0", "1"]', "[", "null"])
def test_a_damaged_list_of_classes_is_one_line(tmp_path: Path, classes: str) -> None:
    make_dataset(tmp_path / "d", PHOTOS[:9])
    (tmp_path / "d/classes.json").write_text(classes)
    with pytest.raises(DataError, match="run `dvc repro download`") as caught:
        Dataset(tmp_path / "d")
    assert "\n" not in str(caught.value)
