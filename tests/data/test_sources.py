"""Folder and archives: the same photos give the same data set."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
from plumage.errors import DataError


def pack(folder: Path, path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.jpg"), reverse=True):
                archive.write(file, file.relative_to(folder.parent))
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize("name", ["birds.zip", "birds.tar", "birds.tar.gz"])
def test_an_archive_gives_the_photos_of_the_folder_that_was_packed(
    class_folders: Path, tmp_path: Path, name: str
) -> None:
    archive = ArchiveSource(pack(class_folders, tmp_path / name))
    assert list(archive.photos()) == list(FolderSource(class_folders).photos())
    assert len(archive) == 40


@pytest.mark.parametrize("name", ["birds.zip", "birds.tar", "birds.tar.gz"])
def test_a_truncated_archive_is_an_error_that_names_it(class_folders: Path, tmp_path: Path, name: str) -> None:
    path = pack(class_folders, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=f"{name} is no whole zip, tar or tar.gz"):
        list(ArchiveSource(path).photos())


def test_something_else_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "birds.zip").write_text("birds")
    with pytest.raises(DataError, match="is no whole zip, tar or tar.gz"):
        ArchiveSource(tmp_path / "birds.zip")
    with pytest.raises(DataError, match="is no file"):
        ArchiveSource(tmp_path / "nothing.zip")


def test_members_that_point_outside_write_nothing_there(tmp_path: Path, class_folders: Path) -> None:
    path = tmp_path / "in" / "birds.tar"
    path.parent.mkdir()
    photo = (class_folders / "CARDINAL" / "0.jpg").read_bytes()
    with tarfile.open(path, "w") as archive:
        for name in ("CARDINAL/0.jpg", "../../evil/1.jpg", "/evil/2.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(photo)
            archive.addfile(member, io.BytesIO(photo))
    with pytest.raises(DataError):
        list(ArchiveSource(path).photos())
    assert not (tmp_path / "evil").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        FolderSource(tmp_path / "nothing")


@pytest.mark.parametrize(("name", "parts"), [("cub100.tar", {"train": 2999, "val": 1459}),
                                             ("birds200-kaggle-layout.zip", {"train": 600, "val": 200, "test": 200})])  # fmt: skip
def test_real_archives_are_read_with_their_parts(shared_data: Path, name: str, parts: dict[str, int]) -> None:
    photos = list(ArchiveSource(shared_data / name).photos())
    assert {part: sum(photo.part == part for photo in photos) for part in parts} == parts
