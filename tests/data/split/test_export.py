"""Photos are exported unchanged: one by its key, or all as class folders."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from support import make_dataset, make_photo, read_all

from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.photo import Photo
from plumage.data.split import export
from plumage.data.split.export import export_photos, show_photo
from plumage.data.split.splits_file import write_splits
from plumage.errors import DataError

RED, BLUE = (200, 40, 50), (60, 90, 200)


def photo(key: str, label: str, seed: int, format: str = "JPEG") -> Photo:
    return Photo(key, label, None, make_photo(RED if seed % 2 else BLUE, seed, format=format))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Dataset]:
    """Makes a data set of the photos given."""

    def make(*photos: Photo) -> Dataset:
        return make_dataset(tmp_path / "dataset", list(photos))

    return make


def held(dataset: Dataset) -> set[tuple[str, bytes]]:
    """The label and bytes of every photo."""
    return {(label, bytes(dataset.photo(row))) for row, label in enumerate(dataset.labels)}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def split(path: Path, dataset: Dataset, *splits: str) -> Path:
    write_splits(path, dataset.keys, dataset.labels, list(splits))
    return path


def test_an_exported_folder_is_a_source_of_the_same_photos_with_the_same_labels(make, tmp_path):
    dataset = make(
        photo("train/JAY/1.jpg", "JAY", 1),
        photo("valid/JAY/1.jpg", "JAY", 2),
        photo("test/Owl's & co/1.JPG", "Owl's & co", 3),
        photo("no suffix at all", "Æsop's jay", 4, "PNG"),
        photo("deep/er/.hidden.png", "Æsop's jay", 5, "PNG"),
        photo("0001.webp", "train", 6, "WEBP"),
    )
    assert export_photos(dataset, tmp_path / "out", None) == 6
    ingest(FolderSource(tmp_path / "out"), tmp_path / "again", min_size=8, max_refused=0, processes=0)
    assert held(Dataset(tmp_path / "again")) == held(dataset)


def test_with_splits_the_folders_are_train_val_test_without_unused_photos(make, tmp_path):
    dataset = make(*(photo(f"JAY/{i}.jpg", "JAY", i) for i in range(4)))
    splits = split(tmp_path / "splits.csv", dataset, "train", "val", "test", "unused")
    assert export_photos(dataset, tmp_path / "out", splits) == 3
    assert files(tmp_path / "out") == {"train/JAY/0.jpg", "val/JAY/1.jpg", "test/JAY/2.jpg"}
    assert sorted(str(photo.split) for photo in read_all(FolderSource(tmp_path / "out"))) == ["test", "train", "val"]


def test_photos_of_the_same_name_get_the_same_distinct_names_each_time(make, tmp_path):
    keys = ["a/1.jpg", "b/1.jpg", "c/1.JPG", "d/2.jpg"]
    dataset = make(*(photo(key, "JAY", i) for i, key in enumerate(keys)))
    for name in ("one", "two"):
        export_photos(dataset, tmp_path / name, None)
    names = files(tmp_path / "one")
    assert names == files(tmp_path / "two")
    assert len({name.lower() for name in names}) == 4
    assert {"JAY/1.jpg", "JAY/2.jpg"} < names


@pytest.mark.parametrize("names", [("jay", "JAY"), ("Pica", "Pica."), ("Thumbs.db", "_Thumbs.db")])
def test_classes_with_nearly_the_same_name_stay_apart(make, tmp_path, names):
    dataset = make(photo("1.jpg", names[0], 1), photo("2.jpg", names[1], 2))
    export_photos(dataset, tmp_path / "out", None)
    source = FolderSource(tmp_path / "out")
    ingest(source, tmp_path / "again", min_size=8, max_refused=0, processes=0)
    assert len(Dataset(tmp_path / "again").classes) == 2


@pytest.mark.parametrize(
    "name",
    ["..", ".", "", "/etc/x", "../../up", "..\\up", "a\0b", "a\nb", ".hidden", "__MACOSX", " ", "x" * 300, "é" * 300],
)
def test_no_name_leads_out_of_the_folder_or_is_hidden_in_it(make, tmp_path, name):
    dataset = make(photo(f"JAY/{name}", "JAY", 1), photo("1.jpg", name, 2))
    out = tmp_path / "new" / "out"
    export_photos(dataset, out, None)
    assert {path.name for path in out.parent.iterdir()} == {"out"}
    assert len(files(out)) == 2
    assert len(FolderSource(out)) == 2, "none is hidden or without a photo's suffix"


def test_a_folder_that_is_not_empty_is_left_as_it_is(make, tmp_path, monkeypatch):
    dataset = make(photo("1.jpg", "JAY", 1))
    full = tmp_path / "full"
    full.mkdir()
    (full / "note.txt").write_text("mine")
    for folder in (full, full / "note.txt"):
        with pytest.raises(DataError, match="takes a new or an empty one"):
            export_photos(dataset, folder, None)
    assert files(full) == {"note.txt"}
    empty = tmp_path / "empty"
    empty.mkdir()
    export_photos(dataset, empty, None)
    assert files(empty) == {"JAY/1.jpg"}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(DataError, match="is the current folder"):
        export_photos(dataset, Path(), None)


def test_an_interrupted_export_leaves_nothing(make, tmp_path, monkeypatch):
    dataset = make(photo("1.jpg", "JAY", 1), photo("2.jpg", "JAY", 2))

    def interrupted(items, *_):
        yield next(iter(items))
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "track", interrupted)
    out = tmp_path / "new" / "out"
    with pytest.raises(KeyboardInterrupt):
        export_photos(dataset, out, None)
    assert list(out.parent.iterdir()) == []


def test_showing_a_photo_writes_its_bytes_and_returns_its_columns(make, tmp_path, monkeypatch):
    dataset = make(photo("a/1.jpg", "JAY", 1), photo("a/2.jpg", "JAY", 2, "PNG"), photo("a/3", "OWL", 3))
    splits = split(tmp_path / "splits.csv", dataset, "train", "unused", "val")
    monkeypatch.chdir(tmp_path)
    shown = show_photo(dataset, "a/1.jpg", splits)
    assert shown.file == Path("1.jpg")
    assert shown.file.read_bytes() == bytes(dataset.photo(0))
    assert shown[1:] == ("a/1.jpg", "JAY", None, "train", 40, 32, len(bytes(dataset.photo(0))))
    assert show_photo(dataset, "a/2.jpg", splits).file == Path("2.png"), "the suffix of its format"
    unsplit = show_photo(dataset, "a/3", tmp_path / "none.csv")
    assert (unsplit.file, unsplit.split) == (Path("3.jpg"), None)


def test_showing_a_photo_overwrites_nothing_without_force(make, tmp_path):
    dataset = make(photo("a/1.jpg", "JAY", 1))
    file, splits = tmp_path / "mine.jpg", tmp_path / "none.csv"
    file.write_text("mine")
    with pytest.raises(DataError, match="--force"):
        show_photo(dataset, "a/1.jpg", splits, file)
    assert file.read_text() == "mine"
    show_photo(dataset, "a/1.jpg", splits, file, force=True)
    assert file.read_bytes() == bytes(dataset.photo(0))
    assert show_photo(dataset, "a/1.jpg", splits, tmp_path).file == tmp_path / "1.jpg"


@pytest.mark.parametrize(
    ("asked", "near"), [("JAY/002.jpeg", "JAY/002.jpg"), ("002", "JAY/002.jpg"), ("jay/1", "JAY/1")]
)
def test_an_unknown_key_gets_similar_ones(make, tmp_path, asked, near):
    dataset = make(photo("JAY/002.jpg", "JAY", 1), photo("JAY/17.jpg", "JAY", 2), photo("OWL/9.jpg", "OWL", 3))
    with pytest.raises(DataError, match=f"no photo has the key '{asked}'; similar keys: .*{near}") as error:
        show_photo(dataset, asked, tmp_path / "none.csv")
    assert "\n" not in str(error.value)


def test_the_split_is_found_for_keys_with_commas_and_quotes(make, tmp_path):
    dataset = make(photo('a/"1", or\n2.jpg', "JAY", 1), photo("key", "JAY", 2))
    splits = split(tmp_path / "splits.csv", dataset, "val", "test")
    assert len(list(csv.reader(splits.open(newline="")))) == 3
    assert [show_photo(dataset, key, splits, tmp_path / "x", force=True).split for key in dataset.keys] == [
        "val",
        "test",
    ]
