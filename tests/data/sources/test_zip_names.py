"""Zips of Windows, macOS and Japan are read with the names that their makers saw."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from support import make_photo, read_all

from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.zip_names import name_encoding


def zip_of(path: Path, names: list[bytes]) -> Path:
    """A zip whose names are these bytes, without the flag for UTF-8."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(
                f"{number:02d}".ljust(len(name), "?"), b"" if name[-1:] in b"/\\" else make_photo((9, 9, 9), number)
            )
    data = buffer.getvalue()
    for number, name in enumerate(names):
        data = data.replace(f"{number:02d}".ljust(len(name), "?").encode(), name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("names", "keys", "encoding"),
    [
        ([b"birds\\JAY\\1.jpg", b"birds\\OWL\\", b"birds\\OWL\\1.jpg"], ["JAY/1.jpg", "OWL/1.jpg"], None),
        (["カワセミ/1.jpg".encode("cp932"), "ソ/1.jpg".encode("cp932")], ["カワセミ/1.jpg", "ソ/1.jpg"], "cp932"),
        (["Bécasse/1.jpg".encode("cp437"), "Grün/1.jpg".encode("cp437")], ["Bécasse/1.jpg", "Grün/1.jpg"], "cp437"),
        (["Bécasse/1.jpg".encode(), "麻雀/1.jpg".encode()], ["Bécasse/1.jpg", "麻雀/1.jpg"], None),
    ],
)  # fmt: skip
def test_names_without_the_utf_8_flag_are_read(
    tmp_path: Path, names: list[bytes], keys: list[str], encoding: str | None
) -> None:
    source = ArchiveSource(zip_of(tmp_path / "birds.zip", names), tmp_path / "scratch")
    assert [photo.key for photo in read_all(source)] == keys
    assert source.about.get("name_encoding") == encoding
    assert "empty_classes" not in source.about


def test_the_unicode_path_of_info_zip_is_the_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "birds.zip", "w") as archive:
        for number, name in enumerate(["麻雀/1.jpg", "喜鹊/1.jpg"]):
            info = zipfile.ZipInfo(f"?{number}/1.jpg")
            field = struct.pack("<BI", 1, zlib.crc32(info.filename.encode())) + name.encode()
            info.extra = struct.pack("<HHB", 0x5455, 1, 0) + struct.pack("<HH", 0x7075, len(field)) + field
            archive.writestr(info, make_photo((9, 9, 9), number))
    source = ArchiveSource(tmp_path / "birds.zip", tmp_path / "scratch")
    assert {photo.label for photo in read_all(source)} == {"麻雀", "喜鹊"}


def test_an_unknown_encoding_keeps_names_apart() -> None:
    names = ["麻雀".encode("gbk"), "喜鹊".encode("gbk"), bytes(range(128, 256))]
    assert name_encoding(names) == "cp437"
    assert len({name.decode("cp437") for name in names}) == 3


def test_empty_and_other_folders_of_an_archive_are_reported(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "birds.zip", [b"b/JAY/1", b"b/OWL/", b"b/TIT/Thumbs.db", b"__MACOSX/b/JAY/._1"])
    source = ArchiveSource(path, tmp_path / "scratch")
    assert [photo.key for photo in read_all(source)] == ["JAY/1"]
    assert source.about == {"passed_over": {}, "merged_classes": {}, "empty_classes": {"OWL": "empty"}}
