"""A folder may hold anything: links, pipes, devices, files and names that nothing can read. Each is named, none stops the rest."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import read_all

from plumage.data.dataset.ingest import check_photos, ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.dvc_check import check_for_dvc
from plumage.data.sources.folder import FolderSource
from plumage.errors import DataError


def refused(root: Path, tmp_path: Path) -> dict[str, str]:
    report = ingest(FolderSource(root), tmp_path / "dataset", min_size=8, max_refused=0.5)
    assert report["photos"] == 40
    return {photo["key"]: photo["reason"] for photo in report["refused"]}


def test_what_cannot_be_read_is_a_refused_photo_with_its_reason(class_folders: Path, tmp_path: Path) -> None:
    owl = class_folders / "ORIOLE"
    (owl / "dead.jpg").symlink_to("/gone/1.jpg")
    (owl / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(owl / "pipe.jpg")
    (owl / "zeros.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(owl / "socket.jpg"))
        assert refused(class_folders, tmp_path) == {
            "ORIOLE/dead.jpg": "unreadable (a link to /gone/1.jpg, which doesn't exist)",
            "ORIOLE/pipe.jpg": "unreadable (a named pipe)",
            "ORIOLE/self.jpg": "unreadable (a link (Too many levels of symbolic links))",
            "ORIOLE/socket.jpg": "unreadable (a socket)",
            "ORIOLE/zeros.jpg": "unreadable (a device)",
        }


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be a user who needs permission to read a file, as root does not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # nobody
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_photo_without_permission_is_refused_and_such_a_folder_is_named(class_folders: Path) -> None:
    with tempfile.TemporaryDirectory() as public:  # pytest's folders are closed to other users
        Path(public).chmod(0o755)
        photos = Path(shutil.copytree(class_folders, Path(public, "photos")))
        (photos / "ORIOLE" / "x.jpg").touch(mode=0)
        with unprivileged():
            checked = [check_photos(chunk, min_size=8) for chunk in FolderSource(photos).chunks()]
        (refused,) = [photo for _, refused, _, _ in checked for photo in refused]
        assert (refused["key"], refused["reason"]) == ("ORIOLE/x.jpg", "unreadable (Permission denied)")
        (photos / "ORIOLE").chmod(0)
        with unprivileged(), pytest.raises(DataError, match="ORIOLE: can't be read"):
            FolderSource(photos)
        (photos / "ORIOLE").chmod(0o755)


def test_links_to_folders_are_followed_and_loops_are_counted(class_folders: Path, tmp_path: Path) -> None:
    (class_folders / "ORIOLE").rename(tmp_path / "elsewhere")
    (class_folders / "ORIOLE").symlink_to(tmp_path / "elsewhere")
    (class_folders / "CARDINAL" / "loop").symlink_to(class_folders)
    source = FolderSource(class_folders)
    assert len(source) == 40
    assert source.about["passed_over"] == {"(link)": 1}


def test_a_class_folder_that_is_a_dead_link_is_an_error_that_names_it(class_folders: Path, tmp_path: Path) -> None:
    (class_folders / "WREN").symlink_to("/unmounted/WREN")
    with pytest.raises(
        DataError, match="the class 'WREN' holds no photo \\(a link to /unmounted/WREN, which doesn't exist\\)"
    ):
        ingest(FolderSource(class_folders), tmp_path / "dataset", min_size=8, max_refused=0)


def test_names_of_any_bytes_are_read(class_folders: Path, tmp_path: Path) -> None:
    oriole = (class_folders / "ORIOLE").rename(class_folders / os.fsdecode(b"P\xeerol"))
    (oriole / "1.jpg").rename(oriole / os.fsdecode(b'a\xff\n,"=1+1".jpg'))
    (oriole / "2.jpg").rename(oriole / f"{'x' * 251}.jpg")
    assert refused(class_folders, tmp_path) == {}
    dataset = Dataset(tmp_path / "dataset")
    assert "P\\xeerol" in dataset.classes
    assert 'P\\xeerol/a\\xff\\x0a,"=1+1".jpg' in dataset.keys


def test_an_archive_given_as_a_folder_is_named_with_the_right_source(tmp_path: Path) -> None:
    (tmp_path / "birds.zip").touch()
    with pytest.raises(DataError, match="is not a folder.*for an archive set data.source: archive"):
        FolderSource(tmp_path / "birds.zip")


def test_photos_without_a_suffix_are_read(class_folders: Path) -> None:
    for file in (class_folders / "ORIOLE").iterdir():
        file.rename(file.with_suffix(""))
    assert {photo.label for photo in read_all(FolderSource(class_folders))} >= {"ORIOLE"}
    assert FolderSource(class_folders).about["passed_over"] == {}


def test_a_folder_of_any_depth_and_with_any_links_ends(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = class_folders.parent / "bomb"
    for level in range(40):
        (bomb / f"{level}").mkdir(parents=True)
        for name in ("x", "y"):
            (bomb / f"{level}" / name).symlink_to(f"../{level + 1}")
    with pytest.raises(DataError, match="links lead to this folder over 100 times"):
        FolderSource(bomb)
    monkeypatch.chdir(class_folders / "ORIOLE")
    for _ in range(150):
        Path("d").mkdir()
        os.chdir("d")
    for read in (FolderSource, check_for_dvc):
        with pytest.raises(DataError, match="is over 100 folders deep"):
            read(class_folders)
