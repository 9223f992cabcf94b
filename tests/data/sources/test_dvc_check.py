"""What DVC can't hash is named before DVC stops on it, or waits for ever."""

import os
from pathlib import Path

import pytest

from plumage.data.sources.dvc_check import check_for_dvc
from plumage.errors import DataError


def test_a_folder_of_photos_is_fine_and_links_to_folders_are_returned(class_folders: Path) -> None:
    assert check_for_dvc(class_folders) == []
    (class_folders / "WREN").symlink_to("ORIOLE")
    (class_folders / "ORIOLE" / "again.jpg").symlink_to("1.jpg")
    assert check_for_dvc(class_folders) == [f"{class_folders}/WREN"]


def test_everything_that_dvc_cannot_hash_is_named_in_one_line(class_folders: Path) -> None:
    oriole = class_folders / "ORIOLE"
    (class_folders / "WREN").symlink_to("/unmounted/WREN")
    (oriole / "dead.jpg").symlink_to("/gone.jpg")
    os.mkfifo(oriole / ".pipe")
    (oriole / os.fsdecode(b"\xe9t\xe9.jpg")).touch()
    with pytest.raises(DataError) as error:
        check_for_dvc(class_folders)
    for problem in (
        "WREN is a link to /unmounted/WREN, which doesn't exist", "dead.jpg is a link to /gone.jpg, which doesn't exist",
        ".pipe is a named pipe", "ORIOLE/\\xe9t\\xe9.jpg has a name that is not UTF-8",
    ):  # fmt: skip
        assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_many_problems_are_counted(class_folders: Path) -> None:
    for number in range(9):
        (class_folders / f"{number}.jpg").symlink_to("gone.jpg")
    with pytest.raises(DataError, match=" and 4 more; remove or repair them"):
        check_for_dvc(class_folders)
