"""Sources by name; folders and archives of the same photos are equal, and unsafe archives are refused."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from support import read_all

from plumage.config import Data, PhotoSource
from plumage.data.sources import open_source
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.photo import SourcePaths
from plumage.errors import DataError

ARCHIVES = ["birds.zip", "birds.tar", "birds.tar.gz", "birds.tar.bz2", "birds.tar.xz"]


def pack(folder: Path, path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*.jpg"), reverse=True):
                archive.write(file, file.relative_to(folder.parent))
    else:
        compression = path.suffix[1:].replace("tar", "")
        with tarfile.open(path, f"w:{compression}") as archive:
            archive.add(folder, folder.name)
    return path


def opened(path: Path) -> ArchiveSource:
    return ArchiveSource(path, path.parent / "scratch.tar")


@pytest.mark.parametrize("name", get_args(PhotoSource))
def test_every_source_of_params_yaml_is_a_module(name: str) -> None:
    assert callable(import_module(f"plumage.data.sources.{name}").from_params)


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_gives_the_photos_of_the_folder_that_was_packed(
    class_folders: Path, tmp_path: Path, name: str
) -> None:
    archive = opened(pack(class_folders, tmp_path / name))
    assert read_all(archive) == read_all(FolderSource(class_folders))
    assert len(archive) == 40


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_truncated_archive_is_an_error_that_names_it(class_folders: Path, tmp_path: Path, name: str) -> None:
    path = pack(class_folders, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(DataError, match=f"{name} is not a complete zip, tar or tar.gz"):
        read_all(opened(path))


def test_a_zip_with_a_damaged_member_is_an_error_that_names_it(class_folders: Path, tmp_path: Path) -> None:
    path = pack(class_folders, tmp_path / "birds.zip")
    data = bytearray(path.read_bytes())
    data[200:220] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"birds.zip is not a complete zip, tar or tar.gz \(.*/\d.jpg: "):
        read_all(opened(path))


def test_a_zip_may_be_replaced_between_two_readings(class_folders: Path, tmp_path: Path) -> None:
    keys = [photo.key for photo in read_all(opened(pack(class_folders, tmp_path / "birds.zip")))]
    (class_folders / keys[0]).rename(class_folders / keys[0].replace("0.jpg", "new.jpg"))
    again = [photo.key for photo in read_all(opened(pack(class_folders, tmp_path / "birds.zip")))]
    assert len(again) == len(keys)
    assert again != keys


@pytest.mark.parametrize(
    ("start", "what"),
    [(b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"Rar!\x1a\x07", "a RAR archive"), (b"<!DOCTYPE", "a web page")],
)
def test_other_archives_are_called_by_their_names(tmp_path: Path, start: bytes, what: str) -> None:
    (tmp_path / "birds.tar").write_bytes(start + bytes(600))
    with pytest.raises(DataError, match=f"birds.tar is {what}; takes a zip, tar, tar.gz, tar.bz2 or tar.xz"):
        opened(tmp_path / "birds.tar")


def test_another_file_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "birds.zip").write_text("birds")
    with pytest.raises(DataError, match="is not a complete zip, tar or tar.gz"):
        opened(tmp_path / "birds.zip")
    with pytest.raises(DataError, match="is not a file"):
        opened(tmp_path / "nothing.zip")


def tar_with(path: Path, photo: bytes, *members: tuple[str, bytes, str]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, kind, link in (("CARDINAL/0.jpg", tarfile.REGTYPE, ""), *members):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            member.size = len(photo) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(photo))


@pytest.mark.parametrize(
    ("name", "kind", "link", "wrong"),
    [
        ("../../evil/1.jpg", tarfile.REGTYPE, "", "absolute path or .. in it"),
        ("CARDINAL/../1.jpg", tarfile.REGTYPE, "", "absolute path or .. in it"),
        ("/evil/2.jpg", tarfile.REGTYPE, "", "absolute path or .. in it"),
        ("C:\\evil\\2.jpg", tarfile.REGTYPE, "", "absolute path or .. in it"),
        ("CARDINAL/link.jpg", tarfile.SYMTYPE, "../../etc/passwd", "a link that leads out"),
        ("CARDINAL/link.jpg", tarfile.SYMTYPE, "/etc/passwd", "a link that leads out"),
        ("CARDINAL/link.jpg", tarfile.LNKTYPE, "../outside.jpg", "a link that leads out"),
        ("CARDINAL/device.jpg", tarfile.CHRTYPE, "", "is a device"),
        ("CARDINAL/pipe.jpg", tarfile.FIFOTYPE, "", "is a device"),
    ],
)
def test_a_tar_with_an_unsafe_member_is_refused(
    tmp_path: Path, class_folders: Path, name: str, kind: bytes, link: str, wrong: str
) -> None:
    path = tmp_path / "in" / "birds.tar"
    path.parent.mkdir()
    tar_with(path, (class_folders / "CARDINAL" / "0.jpg").read_bytes(), (name, kind, link))
    with pytest.raises(DataError, match=rf"{wrong}.*are refused"):
        opened(path)
    assert sorted(tmp_path.rglob("*")) == sorted(
        [path.parent, path, *tmp_path.glob("photos"), *class_folders.rglob("*")]
    )


def test_links_inside_an_archive_are_passed_over(tmp_path: Path, class_folders: Path) -> None:
    path = tmp_path / "birds.tar"
    photo = (class_folders / "CARDINAL" / "0.jpg").read_bytes()
    tar_with(
        path, photo, ("CARDINAL/1.jpg", tarfile.SYMTYPE, "0.jpg"), ("CARDINAL/2.jpg", tarfile.LNKTYPE, "CARDINAL/0.jpg")
    )
    source = opened(path)
    assert [photo.key for photo in read_all(source)] == ["CARDINAL/0.jpg"]
    assert source.about["passed_over"] == {"(link)": 2}
    tar_with(path, photo, ("FINCH/1.jpg", tarfile.SYMTYPE, "../CARDINAL/0.jpg"))
    assert opened(path).about["empty_classes"] == {"FINCH": "empty"}


def escaping(archive: zipfile.ZipFile) -> None:
    archive.writestr("../../evil.jpg", b"x")


def linking(archive: zipfile.ZipFile) -> None:
    link = zipfile.ZipInfo("CARDINAL/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, "/etc/passwd")


def bursting(archive: zipfile.ZipFile) -> None:
    archive.writestr("CARDINAL/bomb.bmp", bytes(40 * 1024**2), zipfile.ZIP_DEFLATED)


def twice(archive: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("CARDINAL/0.jpg", b"x")


@pytest.mark.parametrize(
    ("harm", "wrong"),
    [(escaping, r"\.\. in it"), (linking, "leads out"), (bursting, "like a bomb"), (twice, "0.jpg twice")],
)
def test_an_unsafe_zip_is_refused(tmp_path: Path, harm: Callable[[zipfile.ZipFile], None], wrong: str) -> None:
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
        archive.writestr("CARDINAL/0.jpg", b"photo")
        harm(archive)
    with pytest.raises(DataError, match=f"birds.zip.*{wrong}"):
        opened(tmp_path / "birds.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["birds.zip"]


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
        archive.writestr("CARDINAL/0.jpg", b"photo")
    data = bytearray((tmp_path / "birds.zip").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "birds.zip").write_bytes(data)
    with pytest.raises(DataError, match="is encrypted; takes an archive without a password"):
        opened(tmp_path / "birds.zip")


def test_a_compressed_bomb_does_not_fill_the_disk(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "birds.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("CARDINAL/bomb.bmp")
        member.size = 200 * 1024**2
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match="like a bomb"):
        opened(tmp_path / "birds.tar.gz")
    assert (tmp_path / "scratch.tar").stat().st_size < 40 * 1024**2


def test_the_unpacked_tar_is_gone_when_the_source_is_closed(tmp_path: Path, class_folders: Path) -> None:
    pack(class_folders, tmp_path / "birds.tar.gz")
    scratch = tmp_path / ".unpacked"
    paths = SourcePaths(tmp_path / "birds.tar.gz", tmp_path / "downloads", scratch)
    with open_source(Data(source="archive"), paths) as source:
        assert len(read_all(source)) == 40 and scratch.is_file()
    assert not scratch.exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        FolderSource(tmp_path / "nothing")


def test_a_photo_that_disappears_while_it_is_read_is_named(class_folders: Path) -> None:
    source = FolderSource(class_folders)
    (class_folders / "ORIOLE" / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"ORIOLE/3.jpg: can't be read"):
        read_all(source)


@pytest.mark.parametrize(("name", "splits"), [("cub100.tar", {"train": 2999, "val": 1459}),
                                             ("birds200-kaggle-layout.zip", {"train": 600, "val": 200, "test": 200})])  # fmt: skip
def test_real_archives_are_read_with_their_splits(
    shared_data: Path, tmp_path: Path, name: str, splits: dict[str, int]
) -> None:
    photos = read_all(ArchiveSource(shared_data / name, tmp_path / "scratch.tar"))
    assert {split: sum(photo.split == split for photo in photos) for split in splits} == splits
