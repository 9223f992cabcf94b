"""`data.source: archive`: photos in a zip, tar, tar.gz, tar.bz2 or tar.xz, read in place without unpacking them to disk.

An unsafe archive is refused before any of its photos is read: one with absolute paths or `..`, links that lead out of it,
devices or encrypted members, or a bomb, which unpacks to far more than its size.
"""

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

from plumage.common.files import naming
from plumage.common.text import escaped
from plumage.config import Data
from plumage.data.sources.layout import Found, in_chunks, recognise
from plumage.data.sources.photo import HEAD_BYTES, Chunk, Photo, SourcePaths
from plumage.data.sources.zip_names import zip_names
from plumage.errors import DataError

MAX_RATIO = 100  # photos hardly compress: what unpacks to more than this many times its size, and BOMB_BYTES, is a bomb
BOMB_BYTES = 32 * 1024**2
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)
OTHER_FILES = {
    b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive", b"\x28\xb5\x2f\xfd": "compressed by Zstandard",
    b"<": "a web page", b"version https://": "a pointer of Git LFS",
}  # fmt: skip
"""What is not read, by its first bytes."""
OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.GzipFile, b"BZ": bz2.BZ2File, b"\xfd7": lzma.LZMAFile}


def from_params(data: Data, paths: SourcePaths) -> "ArchiveSource":
    """Open the archive at `data.path`."""
    return ArchiveSource(paths.photos, paths.scratch)


class ArchiveSource:
    """The photos in the archive at `path`, sorted by key. A compressed tar is unpacked to `scratch` first, for random access.

    Raises:
        DataError: the archive is incomplete or unsafe, or holds no photos.
    """

    def __init__(self, path: Path, scratch: Path, where: str = "data.path") -> None:
        if not path.is_file():
            raise DataError(f"{where}: {path} is not a file; takes a zip, tar or tar.gz")
        self.where = f"{where}: {path}"
        try:
            self._zip = zipfile.is_zipfile(path)
            self.file = path if self._zip else self._plain_tar(path, scratch)
            self._offsets: dict[str, int] = {}  # of the members of a tar
            self._stored: dict[str, str] = {}  # the names of a zip's members, as the zip spells them
            self._folders: dict[str, str] = {}
            self._encoding: str | None = None
            files = self._zip_members() if self._zip else self._tar_members()
            self.found, self.about = recognise(files, self.where, self._folders, self._head)
        except BROKEN as error:
            raise _broken(self.where, error) from None
        if self._encoding:
            self.about["name_encoding"] = self._encoding

    def __len__(self) -> int:
        return len(self.found)

    def chunks(self) -> Iterator[Chunk]:
        """Chunks that read the photos' bytes from the archive."""
        for found in in_chunks(self.found):
            if self._zip:
                yield partial(
                    _read_zip, str(self.file), found, [self._stored[photo.name] for photo in found], self.where
                )
            else:
                offsets = [self._offsets[photo.name] for photo in found]
                yield partial(_read_tar, str(self.file), found, offsets, self.where)

    def _head(self, name: str) -> bytes:
        """The first bytes of a member."""
        if self._zip:
            return _member(str(self.file), self._stored[name], HEAD_BYTES)
        with self.file.open("rb") as file:
            file.seek(self._offsets[name])
            return file.read(HEAD_BYTES)

    def _zip_members(self) -> dict[str, int]:
        files = {}
        with zipfile.ZipFile(self.file) as archive:
            members = archive.infolist()
            names, self._encoding = zip_names(members)
            for info, name in zip(members, names, strict=True):
                if name.endswith("/"):
                    self._check(name, None, device=False)
                    self._folders[name] = ""
                    continue
                kind = stat.S_IFMT(info.external_attr >> 16)
                link = archive.read(info).decode("utf-8", "replace") if kind == stat.S_IFLNK else None
                self._check(name, link, device=kind not in (0, stat.S_IFREG, stat.S_IFLNK))
                if info.flag_bits & 1:
                    raise DataError(f"{self.where}: {name} is encrypted; takes an archive without a password")
                if name in files:
                    raise DataError(f"{self.where}: contains {name} twice; takes every photo once")
                if link is None:
                    files[name] = info.file_size
                    self._stored[name] = info.filename
                else:
                    self._note_link(name, link)
        self._check_size(sum(info.file_size for info in members))
        return files

    def _tar_members(self) -> dict[str, int]:
        files = {}
        with tarfile.open(self.file, "r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else a million members would stay in memory
                link = member.linkname if member.islnk() or member.issym() else None
                self._check(member.name, link, device=member.isdev(), from_root=member.islnk())
                if link is not None:
                    self._note_link(member.name, link)
                elif member.isdir():
                    self._folders[member.name] = ""
                elif member.isreg() and not member.issparse():
                    files[member.name] = member.size  # the last of several with one name counts, as in tar
                    self._offsets[member.name] = member.offset_data
        return files

    def _note_link(self, name: str, link: str) -> None:
        """Skip a link: its target is a member of its own. A class folder that holds only links counts as empty."""
        self._folders[name] = f"a link to {link}"
        self._folders.setdefault(str(PurePosixPath(name).parent), "")

    def _plain_tar(self, path: Path, scratch: Path) -> Path:
        with path.open("rb") as file:
            start = file.read(16)
        for beginning, what in OTHER_FILES.items():
            if start.startswith(beginning):
                raise DataError(f"{self.where} is {what}; takes a zip, tar, tar.gz, tar.bz2 or tar.xz")
        opener = OPENERS.get(start[:2])
        if opener is None:
            return path
        scratch.parent.mkdir(parents=True, exist_ok=True)
        limit = max(BOMB_BYTES, MAX_RATIO * path.stat().st_size)
        written = 0
        with opener(path) as packed, scratch.open("wb") as plain:
            while block := packed.read(1024**2):
                written += len(block)
                if written > limit:
                    break
                with naming(scratch):
                    plain.write(block)
        self._check_size(written, path)
        return scratch

    def _check(self, name: str, link: str | None, device: bool, from_root: bool = False) -> None:
        wrong = ""
        if device:
            wrong = "is a device"
        elif _leads_out(name) or ".." in name.replace("\\", "/").split("/"):
            wrong = "has an absolute path or .. in it"
        elif link is not None and _leads_out(link if from_root else str(PurePosixPath(name).parent / link)):
            wrong = f"is a link that leads out of the archive, to {link}"
        if wrong:
            raise DataError(f"{self.where}: {name!r} {wrong}; unsafe archives are refused")

    def _check_size(self, unpacked: int, path: Path | None = None) -> None:
        packed = (path or self.file).stat().st_size
        if unpacked > max(BOMB_BYTES, MAX_RATIO * packed):
            raise DataError(
                f"{self.where}: unpacks to over {MAX_RATIO} times its size ({unpacked:,} bytes from {packed:,}), like a "
                "bomb; takes an archive of photos"
            )


def _leads_out(name: str) -> bool:
    """Whether a member's name or link target lies outside the archive's root, on any operating system."""
    depth = 0
    for segment in name.replace("\\", "/").split("/"):
        depth += 0 if segment in ("", ".") else -1 if segment == ".." else 1
        if depth < 0:
            return True
    return name.startswith(("/", "\\")) or name[1:2] == ":"


def _broken(where: str, error: BaseException) -> DataError:
    return DataError(f"{where} is not a complete zip, tar or tar.gz ({' '.join(str(error).split())}); get it again")


def _opened_zip(path: str) -> zipfile.ZipFile:
    status = os.stat(path)  # noqa: PTH116  # once per chunk
    return _reopened_zip(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(1)
def _reopened_zip(path: str, *version: int) -> zipfile.ZipFile:
    """The zip at `path`, whose list of members takes long to read. Another `version` is another file under its name."""
    return zipfile.ZipFile(path)


def _member(path: str, name: str, most: int = -1) -> bytes:
    """The first bytes of a zip's member. A ValueError names a damaged one."""
    try:
        with _opened_zip(path).open(name) as member:
            return member.read(most)
    except BROKEN as error:
        raise ValueError(f"{escaped(name)}: {error}") from None


def _read_zip(path: str, found: list[Found], stored: list[str], where: str) -> list[Photo]:
    try:
        data = [_member(path, name) for name in stored]
        return [Photo(photo.key, photo.label, photo.split, one) for photo, one in zip(found, data, strict=True)]
    except BROKEN as error:
        raise _broken(where, error) from None


def _read_tar(path: str, found: list[Found], offsets: list[int], where: str) -> list[Photo]:
    photos = []
    with open(path, "rb") as file:  # noqa: PTH123  # a plain path pickles smaller
        for (name, key, label, split, size), offset in zip(found, offsets, strict=True):
            file.seek(offset)
            data = file.read(size)
            if len(data) < size:
                raise _broken(where, EOFError(f"{name} ends early"))
            photos.append(Photo(key, label, split, data))
    return photos
