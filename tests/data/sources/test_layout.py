"""Common layouts of labelled photos."""

import pytest

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
