"""Folder and archives: the same photos give the same data set, and an archive that could do harm is refused whole."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support import read_all

from plumage.config import Data
from plumage.data.sources import open_source
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
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
    with pytest.raises(DataError, match=f"{name} is no whole zip, tar or tar.gz"):
        read_all(opened(path))


def test_a_zip_with_a_damaged_member_is_an_error_that_names_it(class_folders: Path, tmp_path: Path) -> None:
    path = pack(class_folders, tmp_path / "birds.zip")
    data = bytearray(path.read_bytes())
    data[200:220] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(DataError, match="birds.zip is no whole zip"):
        read_all(opened(path))


def test_something_else_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "birds.zip").write_text("birds")
    with pytest.raises(DataError, match="is no whole zip, tar or tar.gz"):
        opened(tmp_path / "birds.zip")
    with pytest.raises(DataError, match="is no file"):
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
def test_a_tar_with_a_member_that_could_do_harm_is_refused_whole(
    tmp_path: Path, class_folders: Path, name: str, kind: bytes, link: str, wrong: str
) -> None:
    path = tmp_path / "in" / "birds.tar"
    path.parent.mkdir()
    tar_with(path, (class_folders / "CARDINAL" / "0.jpg").read_bytes(), (name, kind, link))
    with pytest.raises(DataError, match=rf"{wrong}.*refused whole"):
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
    [(escaping, r"\.\. in it"), (linking, "leads out"), (bursting, "as a bomb does"), (twice, "comes twice")],
)
def test_a_zip_that_could_do_harm_is_refused_whole(
    tmp_path: Path, harm: Callable[[zipfile.ZipFile], None], wrong: str
) -> None:
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


def test_a_compressed_tar_that_bursts_fills_no_disk(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "birds.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("CARDINAL/bomb.bmp")
        member.size = 200 * 1024**2
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(DataError, match="as a bomb does"):
        opened(tmp_path / "birds.tar.gz")
    assert (tmp_path / "scratch.tar").stat().st_size < 40 * 1024**2


def test_the_unpacked_tar_is_gone_when_the_source_is_closed(tmp_path: Path, class_folders: Path) -> None:
    pack(class_folders, tmp_path / "birds.tar.gz")
    scratch = tmp_path / ".unpacked"
    with open_source(Data(source="archive"), tmp_path / "birds.tar.gz", tmp_path / "downloads", scratch) as source:
        assert len(read_all(source)) == 40 and scratch.is_file()
    assert not scratch.exists()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        FolderSource(tmp_path / "nothing")


def test_a_photo_that_goes_while_it_is_read_is_named(class_folders: Path) -> None:
    source = FolderSource(class_folders)
    (class_folders / "ORIOLE" / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"ORIOLE/3.jpg: can't be read"):
        read_all(source)


@pytest.mark.parametrize(("name", "parts"), [("cub100.tar", {"train": 2999, "val": 1459}),
                                             ("birds200-kaggle-layout.zip", {"train": 600, "val": 200, "test": 200})])  # fmt: skip
def test_real_archives_are_read_with_their_parts(
    shared_data: Path, tmp_path: Path, name: str, parts: dict[str, int]
) -> None:
    photos = read_all(ArchiveSource(shared_data / name, tmp_path / "scratch.tar"))
    assert {part: sum(photo.part == part for photo in photos) for part in parts} == parts
