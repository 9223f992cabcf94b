"""Archives made to harm: whatever their headers claim, opening one ends, with little memory, in photos or in one line."""

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import make_photo, read_all

from plumage.data.dataset.ingest import check_photos
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.huggingface import JoinedSource, Piece
from plumage.data.sources.photo import Photo
from plumage.errors import DataError

TB = 10**12
PHOTO = make_photo((200, 20, 20), 0)
END = bytes(2 * tarfile.BLOCKSIZE)
TOO_LARGE = "too large (3,000,000,000 bytes; data.max_bytes takes at most 200,000,000)"


def header(name: bytes, size: int, kind: bytes = b"0", link: bytes = b"") -> bytes:
    """A tar header that says what `tarfile` would not write."""
    octal = 0 <= size < 8**11
    wide = bytes([0xFF if size < 0 else 0x80]) + (size % 2**88).to_bytes(11, "big")
    digits = b"%011o\0" % size if octal else wide
    fields = [name.ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2, digits, b"0" * 11 + b"\0"]
    block = b"".join(fields) + b" " * 8 + kind + link.ljust(100, b"\0") + b"ustar\00000"
    block = block.ljust(tarfile.BLOCKSIZE, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def member(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    return header(name, len(data), kind) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def pax(key: bytes, value: bytes) -> bytes:
    record = b" %s=%s\n" % (key, value)
    length = next(n for n in range(len(record), len(record) + 30) if n == len(str(n)) + len(record))
    return member(b"pax", b"%d%s" % (length, record), b"x")


GOOD = b"".join(member(b"%s/%d.jpg" % (label, i), PHOTO) for label in (b"FINCH", b"ROBIN") for i in range(3))
BROKEN_TARS = {
    "a negative size": header(b"FINCH/n.jpg", -512),
    "a negative size beyond the start": header(b"FINCH/n.jpg", -TB),
    "a negative size in a pax header": pax(b"size", b"-1024") + header(b"FINCH/n.jpg", 0),
    "a pax header of negative size": header(b"pax", -512, b"x"),
    "a pax header of 1 TB": header(b"pax", TB, b"x"),
    "a pax header of 2^70 bytes": header(b"pax", 2**70, b"x"),
    "a GNU long name of 1 TB": header(b"././@LongLink", TB, b"L"),
    "a GNU long link of 1 TB": header(b"././@LongLink", TB, b"K"),
    "a member of 1 TB": header(b"FINCH/n.jpg", TB),
    "a member of 2^80 bytes": header(b"FINCH/n.jpg", 2**80),
    "a size of 1 TB in a pax header": pax(b"size", b"%d" % TB) + header(b"FINCH/n.jpg", 0),
    "a pax length of many digits": member(b"pax", b"9" * 20 + b" a=b\n", b"x") + member(b"x", PHOTO),
    "a number that takes a regular expression for ever": member(b"pax", b"1" * 100_000, b"x") + member(b"x", PHOTO),
    "a character set that is none": pax(b"hdrcharset", b"\xff\xfe") + member(b"x", PHOTO),
    "3,000 headers of one member": pax(b"path", b"FINCH/x.jpg") * 3000 + member(b"x", PHOTO),
    "a sparse map without an end": pax(b"GNU.sparse.major", b"1") + pax(b"GNU.sparse.map", b"1,2,x"),
    "a damaged header in the middle": b"x" * tarfile.BLOCKSIZE + member(b"FINCH/n.jpg", PHOTO),
    "half a header": header(b"FINCH/n.jpg", 0)[:100],
    "a global header of 10,000 records": member(b"pax", b"".join(b"10 %04x=1\n" % i for i in range(10_000)), b"g"),
    "many headers of one member": 40 * pax(b"comment", bytes(100_000)) + member(b"FINCH/n.jpg", PHOTO),
    "a map of a million holes": member(b"pax", b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n", b"x")
    + member(b"FINCH/n.jpg", b"1000000\n" + b"1\n" * 2_000_000),
}


def opened(path: Path) -> ArchiveSource:
    return ArchiveSource(path, path.parent / "scratch.tar")


def line(path: Path) -> str:
    """The line that opening and reading a hostile archive ends with."""
    with pytest.raises(DataError) as caught:
        read_all(opened(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@contextmanager
def allocating_at_most(limit: int) -> Iterator[None]:
    """Check the peak of what Python allocates."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", BROKEN_TARS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_tar_whose_headers_lie_ends_in_one_line(tmp_path: Path, what: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "birds.tar"
    path.write_bytes(pack(GOOD + BROKEN_TARS[what] + (END if what != "half a header" else b"")))
    with allocating_at_most(32 * 1024**2):
        assert "is not a complete zip, tar or tar.gz (" in line(path)


def test_a_name_without_an_end_or_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "birds.tar"
    path.write_bytes(GOOD + pax(b"path", b"A/" * 100_000 + b"1.jpg") + member(b"x", PHOTO) + END)
    assert "... has a name of 200,005 characters" in line(path).replace("'", "")
    path.write_bytes(GOOD + member(b".", PHOTO) + END)
    assert "contains a file without a name" in line(path)


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    (tmp_path / "birds.tar").write_bytes(GOOD + member(b"FINCH/\xe9.jpg", PHOTO) + END)
    assert "FINCH/\\xe9.jpg" in [photo.key for photo in read_all(opened(tmp_path / "birds.tar"))]
    (tmp_path / "birds.tar").write_bytes(GOOD + header(b"OWL\xe9/1.jpg", 0, b"2", b"\xe9\x1b[31m.jpg") + END)
    source = opened(tmp_path / "birds.tar")
    assert source.about["empty_classes"] == {"OWL\\xe9": "empty"}


def test_loops_of_links_are_passed_over(tmp_path: Path) -> None:
    links = header(b"FINCH/a.jpg", 0, b"2", b"b.jpg") + header(b"FINCH/b.jpg", 0, b"2", b"a.jpg")
    (tmp_path / "birds.tar").write_bytes(GOOD + links + header(b"FINCH/h.jpg", TB, b"1", b"FINCH/h.jpg") + END)
    assert opened(tmp_path / "birds.tar").about["passed_over"] == {"(link)": 3}


def test_sparse_members_are_refused_photos(tmp_path: Path) -> None:
    sparse = pax(b"GNU.sparse.map", b"0,10,%d,0" % (200 * 10**9)) + member(b"FINCH/s.jpg", PHOTO)
    (tmp_path / "birds.tar").write_bytes(GOOD + sparse + member(b"FINCH/u.jpg", PHOTO, b"Z") + END)
    refused = [photo for photo in read_all(opened(tmp_path / "birds.tar")) if photo.problem]
    assert [(photo.key, photo.data) for photo in refused] == [("FINCH/s.jpg", b""), ("FINCH/u.jpg", b"")]


@pytest.mark.parametrize(("suffix", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_bombs_are_refused(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"birds.tar.{suffix}"
    path.write_bytes(pack(GOOD + header(b"FINCH/b.jpg", 40 * 1024**2) + bytes(40 * 1024**2)))
    assert "like a bomb" in line(path)


def with_dictionary(xz: bytes, exponent: int) -> bytes:
    """The .xz with a first block that asks for a dictionary of 2^`exponent` bytes: after the 12 bytes of the file's header."""
    header = bytearray(xz[12 : 12 + 4 * xz[12]])
    header[4] = 2 * (exponent - 12)
    return xz[:12] + header + struct.pack("<I", zlib.crc32(header)) + xz[12 + len(header) + 4 :]


@pytest.mark.parametrize("streams", [1, 2])
def test_an_xz_with_a_huge_dictionary_is_refused_before_it_takes_the_memory(tmp_path: Path, streams: int) -> None:
    path, packed = tmp_path / "birds.tar.xz", lzma.compress(GOOD + END)
    before = lzma.compress(b"") * (streams - 1)
    path.write_bytes(before + with_dictionary(packed, 30))
    wrong = "takes too much memory to unpack; takes an xz with a dictionary of at most 256 MiB, as `xz -9` makes"
    assert line(path) == f"data.path: {path}: {wrong}"
    path.write_bytes(before + with_dictionary(packed, 28) + bytes(8))
    assert len(opened(path)) == 6
    path.write_bytes(before + packed[:-20])
    assert "ends early" in line(path)


def test_an_xz_whose_streams_lie_far_apart_is_read_to_its_end(tmp_path: Path) -> None:
    archive, padding = GOOD + END, bytes(3 * 1024**2)
    half = len(archive) // 2
    (tmp_path / "birds.tar.xz").write_bytes(lzma.compress(archive[:half]) + padding + lzma.compress(archive[half:]))
    assert len(opened(tmp_path / "birds.tar.xz")) == 6


def test_what_is_packed_twice_is_not_unpacked_twice(tmp_path: Path) -> None:
    nested = gzip.compress(gzip.compress(bytes(40 * 1024**2)))
    (tmp_path / "birds.tar.gz").write_bytes(gzip.compress(GOOD + member(b"FINCH/bomb.jpg.gz", nested) + END))
    assert opened(tmp_path / "birds.tar.gz").about["passed_over"] == {".gz": 1}
    (tmp_path / "birds.tar.gz").write_bytes(gzip.compress(gzip.compress(GOOD + END)))
    assert "is not a complete zip" in line(tmp_path / "birds.tar.gz")


def zip_with(path: Path, name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED, kind: int = stat.S_IFREG) -> Path:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = (kind | 0o644) << 16, method
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("FINCH/1.jpg", PHOTO)
        archive.writestr("ROBIN/1.jpg", make_photo((20, 200, 20), 1))
        archive.writestr("ROBIN/noise.txt", os.urandom(10**6))  # so that nothing is a bomb by its ratio
        archive.writestr(info, data)
    return path


def claim(path: Path, size: int) -> None:
    """Let the zip's list say that its last member unpacks to `size` bytes."""
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(data)


def test_a_link_in_a_zip_is_not_read_before_its_size_is_checked(tmp_path: Path) -> None:
    path = zip_with(tmp_path / "birds.zip", "FINCH/2.jpg", bytes(60 * 1024**2), kind=stat.S_IFLNK)
    with allocating_at_most(10 * 1024**2):
        assert "FINCH/2.jpg is a link with a target of 62,914,560 bytes" in line(path)


@pytest.mark.parametrize("name", ["FINCH/2.jpg", "FINCH/2"])
def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path, name: str) -> None:
    path = zip_with(tmp_path / "birds.zip", name, bytes(60 * 1024**2))
    claim(path, 1000)
    with allocating_at_most(10 * 1024**2):
        assert "is not a complete zip" in line(path)


@pytest.mark.parametrize(("method", "what"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")])
def test_methods_that_can_not_be_bounded_are_named(tmp_path: Path, method: int, what: str) -> None:
    path = zip_with(tmp_path / "birds.zip", "FINCH/2.jpg", PHOTO, method)
    assert f"FINCH/2.jpg is compressed by {what}; takes a zip with the usual method, deflate" in line(path)


def sparse_folder(folder: Path) -> FolderSource:
    for label in ("FINCH", "ROBIN"):
        (folder / label).mkdir(parents=True)
        (folder / label / "1.jpg").write_bytes(PHOTO)
    (folder / "FINCH" / "2.jpg").touch()
    os.truncate(folder / "FINCH" / "2.jpg", 3 * 10**9)
    return FolderSource(folder)


def sparse_tar(folder: Path) -> ArchiveSource:
    path = folder / "birds.tar"
    path.write_bytes(GOOD + header(b"FINCH/2.jpg", 3 * 10**9))
    os.truncate(path, path.stat().st_size + 3 * 10**9)
    return opened(path)


def claiming_zip(folder: Path) -> ArchiveSource:
    path = zip_with(folder / "birds.zip", "FINCH/2.jpg", bytes(40 * 1024**2))
    claim(path, 3 * 10**9)
    data = path.read_bytes()
    path.write_bytes(bytes(40 * 1024**2) + data)  # as one that unpacks itself starts with a program
    return opened(path)


@pytest.mark.parametrize("make", [sparse_folder, sparse_tar, claiming_zip])
def test_a_photo_of_3_gb_is_refused_unread(
    tmp_path: Path, make: Callable[[Path], FolderSource | ArchiveSource]
) -> None:
    source = make(tmp_path)
    with allocating_at_most(10 * 1024**2):
        photos = [photo for chunk in source.chunks() for photo in chunk() if photo.problem]
    assert [(photo.key, photo.data, photo.problem) for photo in photos] == [("FINCH/2.jpg", b"", TOO_LARGE)]
    reports = [refused for chunk in source.chunks() for refused in check_photos(chunk, min_size=1)[1]]
    assert [(photo["key"], photo["reason"]) for photo in reports] == [("FINCH/2.jpg", TOO_LARGE)]


def test_a_limit_of_ones_own_counts_in_joined_archives_too(tmp_path: Path) -> None:
    (tmp_path / "birds.tar").write_bytes(GOOD + END)
    source = ArchiveSource(tmp_path / "birds.tar", tmp_path / "scratch.tar", max_bytes=100)
    photos: list[Photo] = read_all(JoinedSource([Piece("train/", "train", source)]))
    assert {photo.problem for photo in photos} == {
        f"too large ({len(PHOTO):,} bytes; data.max_bytes takes at most 100)"
    }


def test_a_photo_that_grows_after_it_was_listed_is_refused(tmp_path: Path) -> None:
    sparse_folder(tmp_path)
    source = FolderSource(tmp_path, max_bytes=100_000)
    os.truncate(tmp_path / "ROBIN" / "1.jpg", 3 * 10**9)
    with allocating_at_most(10 * 1024**2):
        problems = [photo.problem for photo in read_all(source) if photo.key == "ROBIN/1.jpg"]
    assert problems == ["too large (100,001 bytes; data.max_bytes takes at most 100,000)"]


def test_a_pipe_in_the_place_of_a_photo_blocks_nothing(tmp_path: Path) -> None:
    source = sparse_folder(tmp_path)
    (tmp_path / "ROBIN" / "1.jpg").unlink()
    os.mkfifo(tmp_path / "ROBIN" / "1.jpg")
    assert [photo.data for photo in read_all(source) if photo.key == "ROBIN/1.jpg"] == [b""]
