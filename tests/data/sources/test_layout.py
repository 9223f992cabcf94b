"""Common layouts of labelled photos."""

import unicodedata

import pytest
from support import make_photo

from plumage.data.sources.layout import in_chunks, recognise
from plumage.errors import DataError


def found(names: list[str]) -> list[tuple[str, str, str | None]]:
    return [(photo.key, photo.label, photo.split) for photo in recognise(dict.fromkeys(names, 0), "here")[0]]


def test_class_folders_have_no_splits() -> None:
    assert found(["JAY/2.jpg", "JAY/1.PNG", "OWL/1.webp"]) == [
        ("JAY/1.PNG", "JAY", None), ("JAY/2.jpg", "JAY", None), ("OWL/1.webp", "OWL", None),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["valid", "validation", "val", "VAL", "Valid"])
def test_splits_above_class_folders_are_known_by_their_usual_names(name: str) -> None:
    assert set(found([f"{name}/JAY/1.jpg", "train/JAY/1.jpg", "Test/JAY/1.jpg"])) == {
        ("Test/JAY/1.jpg", "JAY", "test"), ("train/JAY/1.jpg", "JAY", "train"), (f"{name}/JAY/1.jpg", "JAY", "val"),
    }  # fmt: skip


def test_a_wrapping_folder_is_not_a_class() -> None:
    assert found(["birds/train/JAY/1.jpg", "birds/test/JAY/2.jpg"]) == [
        ("test/JAY/2.jpg", "JAY", "test"), ("train/JAY/1.jpg", "JAY", "train"),
    ]  # fmt: skip
    assert found(["birds/JAY/1.jpg", "birds/OWL/1.jpg"])[0] == ("JAY/1.jpg", "JAY", None)


def test_a_single_split_is_still_a_split() -> None:
    assert found(["train/JAY/1.jpg", "train/OWL/1.jpg"])[0] == ("train/JAY/1.jpg", "JAY", "train")


def test_spellings_that_differ_in_spaces_or_case_are_one_class() -> None:
    names = ["train/BLACK &  BROADBILL/1.jpg", "train/BLACK &  BROADBILL/2.jpg", "valid/Black & Broadbill/3.jpg"]
    photos, about = recognise(dict.fromkeys(names, 0), "here")
    assert {photo.label for photo in photos} == {"BLACK & BROADBILL"}
    assert about["merged_classes"] == {"BLACK & BROADBILL": ["BLACK &  BROADBILL", "Black & Broadbill"]}


def test_other_files_are_passed_over_and_counted_and_hidden_ones_ignored() -> None:
    names = ["JAY/1.jpg", "birds.csv", "JAY/.DS_Store", "__MACOSX/JAY/._1.jpg", ".git/JAY/2.jpg"]
    photos, about = recognise(dict.fromkeys(names, 0), "here")
    assert len(photos) == 1
    assert about["passed_over"] == {".csv": 1}


def test_names_that_start_with_dot_slash_as_in_many_tars_are_read() -> None:
    assert found(["./train/JAY/1.jpg", "./valid/JAY/2.jpg"]) == [
        ("train/JAY/1.jpg", "JAY", "train"), ("valid/JAY/2.jpg", "JAY", "val"),
    ]  # fmt: skip


def test_chunks_are_bounded_by_photos_and_by_bytes() -> None:
    small, _ = recognise({f"JAY/{n}.jpg": 10 for n in range(130)}, "here")
    large, _ = recognise({f"JAY/{n}.jpg": 3 * 1024**2 for n in range(5)}, "here")
    assert [len(run) for run in in_chunks(small)] == [64, 64, 2]
    assert [len(run) for run in in_chunks(large)] == [2, 2, 1]


@pytest.mark.parametrize("names", [[], ["notes.txt"], ["1.jpg", "JAY/1.jpg"], ["train/JAY/1.jpg", "OWL/x/y/1.jpg"]])
def test_an_unknown_layout_is_an_error_that_shows_the_known_ones(names: list[str]) -> None:
    with pytest.raises(DataError, match="takes <class>/<photo>"):
        recognise(dict.fromkeys(names, 0), "here")


SPLITS = ["train/JAY/1.jpg", "train/OWL/1.jpg", "Valid/JAY/2.jpg"]


@pytest.mark.parametrize(
    ("names", "odd"),
    [
        ([*SPLITS, "train/9.jpg"], "train/9.jpg is in no class folder, unlike Valid/JAY/2.jpg"),
        ([*SPLITS, "valid/OWL/x/1.jpg"], "valid/OWL/x/1.jpg is in a folder inside the class folder OWL"),
        ([*SPLITS, "extra/OWL/1.jpg"], "extra/OWL/1.jpg is in the folder extra, which is no split"),
        ([*SPLITS, *(f"extra/birds/{n}.jpg" for n in range(9))], "extra/birds/0.jpg is in the folder extra"),
        ([*SPLITS, "cover.jpg"], "cover.jpg is in no class folder"),
        (["JAY/1.jpg", "JAY/2.jpg", "OWL/1.jpg", "cover.jpg"], "cover.jpg is in no class folder, unlike JAY/1.jpg"),
        (["JAY/1.jpg", "OWL/1.jpg", "OWL/set 2/1.jpg"], "OWL/set 2/1.jpg is in a folder inside the class folder OWL"),
        (["Pica/pica/1.jpg", "Corvus/corax/1.jpg", "Corvus/corone/1.jpg"], "Pica/pica/1.jpg is in other folders"),
        (["train/1.jpg", "test/1.jpg"], "test/1.jpg is in no class folder, as test is a split"),
        (["1.jpg", "2.jpg"], "its photos, such as 1.jpg, are in no class folder"),
    ],
)
def test_the_error_names_the_odd_photo_out(names: list[str], odd: str) -> None:
    with pytest.raises(DataError, match=f"^here: {odd}") as error:
        recognise(dict.fromkeys(names, 0), "here")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("folder", ["test", "TEST", "images to predict"])
def test_photos_without_a_label_beside_train_are_passed_over_and_counted(folder: str) -> None:
    photos, about = recognise(dict.fromkeys([*SPLITS, f"{folder}/1.jpg", f"{folder}/2.jpg"], 0), "here")
    assert len(photos) == len(SPLITS)
    assert about["passed_over"] == {f"photos without a class folder in {folder}/": 2}


def test_unlabelled_photos_may_outnumber_the_others() -> None:
    unlabelled = [f"{folder}/{n}.jpg" for folder in ("test", "images to predict") for n in range(9)]
    assert len(found([*SPLITS, *unlabelled])) == len(SPLITS)


def test_a_folder_alone_in_test_that_is_no_class_of_train_holds_unlabelled_photos() -> None:
    names = [*SPLITS, *(f"test/unknown/{n}.jpg" for n in range(9))]
    photos, about = recognise(dict.fromkeys(names, 0), "here", {"test/unknown": ""})
    assert {photo.label for photo in photos} == {"JAY", "OWL"}
    assert about == {"passed_over": {"photos of no class of train in test/unknown/": 9}, "merged_classes": {}}
    assert len(found([*SPLITS, "test/jay/1.jpg"])) == len(SPLITS) + 1


def test_training_dev_and_testing_are_splits_too() -> None:
    assert {split for *_, split in found(["Training/J/1.jpg", "dev/J/1.jpg", "testing/J/1.jpg"])} == {
        "train",
        "val",
        "test",
    }


def test_other_files_and_folders_beside_the_splits_are_no_classes() -> None:
    names = [*SPLITS, "readme.txt", "weights/EfficientNetB0.h5", "birds.csv"]
    photos, about = recognise(dict.fromkeys(names, 0), "here", {"empty": ""})
    assert len(photos) == len(SPLITS)
    assert about == {"passed_over": {".csv": 1, ".h5": 1, ".txt": 1}, "merged_classes": {}}


def test_class_folders_without_a_photo_are_reported_with_what_is_in_them() -> None:
    names = ["JAY/1.jpg", "OWL/1.txt", "OWL/2.txt", "OWL/notes", "WREN/Thumbs.db", "jay /x.csv", "readme.txt"]
    folders = dict.fromkeys(["JAY", "OWL", "WREN", "TIT", "lost+found", "JAY/sub", "jay "], "") | {
        "GULL": "a dead link"
    }
    _, about = recognise(dict.fromkeys(names, 0), "here", folders)
    assert about["empty_classes"] == {
        "GULL": "a dead link",
        "OWL": "2 .txt, 1 without a suffix",
        "TIT": "empty",
        "WREN": "empty",
    }


def test_a_class_that_is_empty_in_one_split_only_is_not_empty() -> None:
    _, about = recognise(dict.fromkeys(SPLITS, 0), "here", dict.fromkeys(["train/JAY", "Valid/OWL", "Valid/JAY"], ""))
    assert "empty_classes" not in about


def test_photos_are_known_by_their_content_where_the_suffix_is_unusual() -> None:
    heads = {
        "JAY/1": make_photo((9, 9, 9), 0), "JAY/2.jpeg_large": make_photo((9, 9, 9), 0, format="PNG"),
        "JAY/3.jpg?width=300": make_photo((9, 9, 9), 0, format="WEBP"), "OWL/4.dat": make_photo((9, 9, 9), 0, format="BMP"),
        "OWL/5": make_photo((9, 9, 9), 0, format="GIF"), "OWL/6.photo": make_photo((9, 9, 9), 0, format="TIFF"),
        "OWL/7": make_photo((9, 9, 9), 0, format="AVIF"), "OWL/8": b"\0\0\0\x18ftypheic\0\0\0\0",
    }  # fmt: skip
    others = {
        "OWL/raw.NEF": heads["OWL/6.photo"], "OWL/film.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0", "OWL/notes": b"BM is no bitmap",
    }  # fmt: skip
    files = heads | others
    photos, about = recognise(dict.fromkeys(files, 0), "here", head=lambda name: files[name][:32])
    assert {photo.name for photo in photos} == set(heads)
    assert about["passed_over"] == {".mp4": 1, ".nef": 1, "(no suffix)": 1}


@pytest.mark.parametrize("suffix", [".HEIC", ".heif", ".hif", ".AVIF", ".JFIF", ".JPE"])
def test_photos_of_less_common_formats_are_found(suffix: str) -> None:
    assert found([f"JAY/1{suffix}"]) == [(f"JAY/1{suffix}", "JAY", None)]


def test_composed_and_decomposed_names_are_one_class_whose_photos_keep_apart() -> None:
    composed, decomposed = unicodedata.normalize("NFC", "Bécasse"), unicodedata.normalize("NFD", "Bécasse")
    names = [f"{decomposed}/1.jpg", f"{composed}/1.jpg", f"{decomposed}/é.jpg", f"{composed}/1 (2).jpg"]
    photos, about = recognise(dict.fromkeys(names, 0), "here")
    assert {photo.label for photo in photos} == {composed}
    keys = [photo.key for photo in photos]
    assert sorted(keys) == sorted({f"{composed}/{name}.jpg" for name in ("1", "1 (2)", "1 (3)", "é")})
    assert {photo.name for photo in photos} == set(names)
    assert list(about["merged_classes"]) == [composed]


def test_names_that_are_not_utf_8_or_not_printable_are_escaped_without_loss() -> None:
    names = ["b\udce9casse/1.jpg", "OWL/a\rb\x1b[31m.jpg", "OWL/a\udcff.\udcff"]
    photos, about = recognise(dict.fromkeys(names, 0), "here")
    assert [(photo.name, photo.key, photo.label) for photo in photos] == [
        (names[1], "OWL/a\\x0db\\x1b[31m.jpg", "OWL"), (names[0], "b\\xe9casse/1.jpg", "b\\xe9casse"),
    ]  # fmt: skip
    assert about["passed_over"] == {".\\xff": 1}


@pytest.mark.parametrize("names", [("Corvus sp.", "Corvus sp"), ("JAY ", "JAY"), ("A  B", "A B"), ("Jay", "JAY")])
def test_spellings_that_systems_confuse_are_one_class(names: tuple[str, str]) -> None:
    photos, _ = recognise(dict.fromkeys([f"{names[0]}/1.jpg", f"{names[1]}/2.jpg"], 0), "here")
    assert len({photo.label for photo in photos}) == 1


@pytest.mark.parametrize(
    "name", ["@eaDir", ".picasaoriginals", ".git", ".ipynb_checkpoints", "lost+found", "$RECYCLE.BIN", "#recycle", ".Trash-1000",
             ".thumbnails", "__MACOSX", ".@__thumb"],
)  # fmt: skip
def test_folders_of_the_system_are_passed_over_without_a_word(name: str) -> None:
    files = ["JAY/1.jpg", f"{name}/1.jpg", f"JAY/{name}/1.jpg", "JAY/Thumbs.db", "JAY/desktop.ini", "JAY/._1.jpg"]
    photos, about = recognise(dict.fromkeys(files, 0), "here", {name: "", f"JAY/{name}": ""})
    assert [photo.key for photo in photos] == ["JAY/1.jpg"]
    assert about == {"passed_over": {}, "merged_classes": {}}
