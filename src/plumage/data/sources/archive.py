"""`data.source: archive`: photos in a zip, tar, tar.gz, tar.bz2 or tar.xz, read in place without unpacking them to disk.

An unsafe archive is refused before any of its photos is read: one with absolute paths or `..`, links that lead out of it,
devices or encrypted members, or a bomb, which unpacks to far more than its size. What its headers say is checked before it is
believed.
"""

import bz2
import gzip
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

from plumage.common.files import is_full, naming
from plumage.common.text import escaped
from plumage.config import MAX_BYTES, Data
from plumage.data.sources.layout import Found, in_chunks, recognise
from plumage.data.sources.photo import HEAD_BYTES, Chunk, Photo, SourcePaths
from plumage.data.sources.tar_members import tar_members
from plumage.data.sources.xz_blocks import BLOCK_BYTES, MAX_DICTIONARY, xz_blocks
from plumage.data.sources.zip_names import zip_names
from plumage.errors import DataError

MAX_RATIO = 100  # photos hardly compress: what unpacks to more than this many times its size, and BOMB_BYTES, is a bomb
BOMB_BYTES = 32 * 1024**2
MAX_MEMBERS = 5_000_000
MAX_NAME = 1024  # characters
MAX_LINK_BYTES = 4096  # of a link's target in a zip
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError,
    ArithmeticError, LookupError, struct.error,
)  # fmt: skip
"""What is raised for a damaged archive: the last three by `tarfile` and `zipfile`, which don't check all that they read."""
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those of which `zipfile` unpacks no more than it is asked for. A kilobyte in bzip2 may unpack to a gigabyte."""
OTHER_FILES = {
    b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive", b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
    b"<": "a web page", b"version https://": "a pointer of Git LFS",
}  # fmt: skip
"""What is not read, by its first bytes."""


def from_params(data: Data, paths: SourcePaths) -> "ArchiveSource":
    """Open the archive at `data.path`."""
    return ArchiveSource(paths.photos, paths.scratch, max_bytes=data.max_bytes)


class ArchiveSource:
    """The photos in the archive at `path`, sorted by key. A compressed tar is unpacked to `scratch` first, for random access.

    Photos of more than `max_bytes`, and sparse ones, are refused.

    Raises:
        DataError: the archive is incomplete or unsafe, or holds no photos.
    """

    def __init__(self, path: Path, scratch: Path, where: str = "data.path", max_bytes: int = MAX_BYTES) -> None:
        if not path.is_file():
            raise DataError(f"{where}: {path} is not a file; takes a zip, tar or tar.gz")
        self.where = f"{where}: {path}"
        try:
            self._zip = zipfile.is_zipfile(path)
            self.file = path if self._zip else self._plain_tar(path, scratch)
            self._offsets: dict[str, int] = {}  # of the members of a tar
            self._stored: dict[str, str] = {}  # the names of a zip's members, as the zip spells them
            self._problems: dict[str, str] = {}
            self._members = 0
            self._folders: dict[str, str] = {}
            self._encoding: str | None = None
            files = self._zip_members() if self._zip else self._tar_members()
            self.found, self.about = recognise(files, self.where, self._folders, self._head, self._problems, max_bytes)
        except BROKEN as error:
            raise _broken(self.where, error) from None
        except MemoryError:
            raise DataError(
                f"{self.where}: takes too much memory to unpack; takes an xz with a dictionary of at most "
                f"{MAX_DICTIONARY // 1024**2} MiB, as `xz -9` makes"
            ) from None
        if self._encoding:
            self.about["name_encoding"] = self._encoding

    def __len__(self) -> int:
        return len(self.found)

    def chunks(self) -> Iterator[Chunk]:
        """Chunks that read the photos' bytes from the archive."""
        for found in in_chunks(self.found):
            if self._zip:
                stored = [self._stored[photo.name] for photo in found]
                yield partial(_read_zip, str(self.file), found, stored, self.where)
            else:
                offsets = [self._offsets.get(photo.name, 0) for photo in found]
                yield partial(_read_tar, str(self.file), found, offsets, self.where)

    def _head(self, name: str) -> bytes:
        """The first bytes of a member."""
        if name in self._problems:
            return b""
        if self._zip:
            return _member(str(self.file), self._stored[name], HEAD_BYTES)
        with self.file.open("rb") as file:
            file.seek(self._offsets[name])
            return file.read(HEAD_BYTES)

    def _zip_members(self) -> dict[str, int]:
        files = {}
        with zipfile.ZipFile(self.file) as archive:
            members = archive.infolist()
            self._check_size(sum(info.file_size for info in members))
            names, self._encoding = zip_names(members)
            for info, name in zip(members, names, strict=True):
                if name.endswith("/"):
                    self._check(name, None, device=False)
                    self._folders[name] = ""
                    continue
                kind = stat.S_IFMT(info.external_attr >> 16)
                self._check_zipped(info, escaped(name))
                link = self._link_target(info) if kind == stat.S_IFLNK else None
                self._check(name, link, device=kind not in (0, stat.S_IFREG, stat.S_IFLNK))
                if name in files:
                    raise DataError(f"{self.where}: contains {escaped(name)} twice; takes every photo once")
                if link is None:
                    files[name] = info.file_size
                    self._stored[name] = info.filename
                else:
                    self._note_link(name, link)
        return files

    def _check_zipped(self, info: zipfile.ZipInfo, name: str) -> None:
        if info.flag_bits & 1:
            raise DataError(f"{self.where}: {name} is encrypted; takes an archive without a password")
        if info.compress_type not in ZIP_METHODS:
            method = zipfile.compressor_names.get(info.compress_type, f"method {info.compress_type}")  # type: ignore[attr-defined]
            raise DataError(
                f"{self.where}: {name} is compressed by {method}; takes a zip with the usual method, deflate"
            )

    def _link_target(self, info: zipfile.ZipInfo) -> str:
        if info.file_size > MAX_LINK_BYTES:
            raise DataError(
                f"{self.where}: {escaped(info.filename)} is a link with a target of {info.file_size:,} bytes; unsafe archives "
                "are refused"
            )
        return _member(str(self.file), info.filename, info.file_size).decode("utf-8", "replace")

    def _tar_members(self) -> dict[str, int]:
        files = {}
        for member in tar_members(self.file):
            link = member.linkname if member.islnk() or member.issym() else None
            self._check(member.name, link, device=member.isdev(), from_root=member.islnk())
            if link is not None:
                self._note_link(member.name, link)
            elif member.isdir():
                self._folders[member.name] = ""
            elif not member.name.strip("./"):
                raise DataError(f"{self.where}: contains a file without a name; takes an archive of photos")
            elif member.isreg() and not member.issparse():
                files[member.name] = member.size  # the last of several with one name counts, as in tar
                self._offsets[member.name] = member.offset_data
                self._problems.pop(member.name, None)
            else:
                files[member.name] = 0
                self._problems[member.name] = "unreadable (a sparse file, or another kind that only some tars know)"
        return files

    def _note_link(self, name: str, link: str) -> None:
        """Skip a link: its target is a member of its own. A class folder that holds only links counts as empty."""
        self._folders[name] = f"a link to {escaped(link)}"
        self._folders.setdefault(str(PurePosixPath(name).parent), "")

    def _plain_tar(self, path: Path, scratch: Path) -> Path:
        with path.open("rb") as file:
            start = file.read(16)
        for beginning, what in OTHER_FILES.items():
            if start.startswith(beginning):
                raise DataError(f"{self.where} is {what}; takes a zip, tar, tar.gz, tar.bz2 or tar.xz")
        unpacker = UNPACKERS.get(start[:2])
        if unpacker is None:
            return path
        scratch.parent.mkdir(parents=True, exist_ok=True)
        limit = max(BOMB_BYTES, MAX_RATIO * path.stat().st_size)
        written = 0
        with closing(unpacker(path)) as blocks, naming(scratch), scratch.open("wb") as plain:
            for block in blocks:
                written += len(block)
                if written > limit:
                    break
                plain.write(block)
        self._check_size(written, path)
        return scratch

    def _check(self, name: str, link: str | None, device: bool, from_root: bool = False) -> None:
        wrong = ""
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise DataError(f"{self.where}: has over {MAX_MEMBERS:,} members; takes an archive with fewer")
        if len(name) > MAX_NAME:
            name, wrong = name[:40] + "...", f"has a name of {len(name):,} characters"
        elif device:
            wrong = "is a device"
        elif _leads_out(name) or ".." in name.replace("\\", "/").split("/"):
            wrong = "has an absolute path or .. in it"
        elif link is not None and _leads_out(link if from_root else str(PurePosixPath(name).parent / link)):
            wrong = f"is a link that leads out of the archive, to {escaped(link)[:MAX_NAME]}"
        if wrong:
            raise DataError(f"{self.where}: {name!r} {wrong}; unsafe archives are refused")

    def _check_size(self, unpacked: int, path: Path | None = None) -> None:
        packed = (path or self.file).stat().st_size
        if unpacked > max(BOMB_BYTES, MAX_RATIO * packed):
            raise DataError(
                f"{self.where}: unpacks to over {MAX_RATIO} times its size ({unpacked:,} bytes from {packed:,}), like a "
                "bomb; takes an archive of photos"
            )


def _blocks(opener: Callable[[Path], Any], path: Path) -> Generator[bytes, None, None]:
    with opener(path) as packed:
        while block := packed.read(BLOCK_BYTES):
            yield block


UNPACKERS: dict[bytes, Callable[[Path], Generator[bytes, None, None]]] = {
    b"\x1f\x8b": partial(_blocks, gzip.GzipFile), b"BZ": partial(_blocks, bz2.BZ2File), b"\xfd7": xz_blocks,
}  # fmt: skip
"""How a compressed tar is unpacked, by its first bytes."""


def _leads_out(name: str) -> bool:
    """Whether a member's name or link target lies outside the archive's root, on any operating system."""
    depth = 0
    for segment in name.replace("\\", "/").split("/"):
        depth += 0 if segment in ("", ".") else -1 if segment == ".." else 1
        if depth < 0:
            return True
    return name.startswith(("/", "\\")) or name[1:2] == ":"


def _broken(where: str, error: BaseException) -> BaseException:
    if is_full(error):  # where it is unpacked to
        return error
    why = escaped(" ".join(str(error).split()))[:300] or type(error).__name__
    return DataError(f"{where} is not a complete zip, tar or tar.gz ({why}); get it again")


def _opened_zip(path: str) -> zipfile.ZipFile:
    status = os.stat(path)  # noqa: PTH116  # once per chunk
    return _reopened_zip(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(1)
def _reopened_zip(path: str, *version: int) -> zipfile.ZipFile:
    """The zip at `path`, whose list of members takes long to read. Another `version` is another file under its name."""
    return zipfile.ZipFile(path)


def _member(path: str, name: str, size: int) -> bytes:
    """The first `size` bytes of a zip's member, whatever it unpacks to. A ValueError names a damaged one."""
    try:
        with _opened_zip(path).open(name) as member:
            return member.read(size)
    except BROKEN as error:
        raise ValueError(f"{escaped(name)}: {error}") from None


def _read_zip(path: str, found: list[Found], stored: list[str], where: str) -> list[Photo]:
    try:
        return [
            photo.photo() if photo.problem else photo.photo(_member(path, name, photo.size))
            for photo, name in zip(found, stored, strict=True)
        ]
    except BROKEN as error:
        raise _broken(where, error) from None


def _read_tar(path: str, found: list[Found], offsets: list[int], where: str) -> list[Photo]:
    photos = []
    with open(path, "rb") as file:  # noqa: PTH123  # a plain path pickles smaller
        for photo, offset in zip(found, offsets, strict=True):
            file.seek(offset)
            data = b"" if photo.problem else file.read(photo.size)
            if not photo.problem and len(data) < photo.size:
                raise _broken(where, EOFError(f"{photo.name} ends early"))
            photos.append(photo.photo(data))
    return photos
