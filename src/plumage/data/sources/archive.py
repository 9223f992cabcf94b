"""Photos in a zip, tar or tar.gz. Nothing is unpacked onto the disk, so no member can be written outside its place."""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, cast

from plumage.data.photo import Photo
from plumage.data.sources.layout import recognise
from plumage.errors import DataError

BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


class ArchiveSource:
    """The photos in the archive at `path`, sorted by key. DataError when it is no whole archive or holds no photos."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"data.path: {path} is no file; data.source archive takes a zip, tar or tar.gz")
        self.path = path
        self._open_files = ExitStack()
        try:
            if zipfile.is_zipfile(path):
                self._read, names = self._open_zip()
            else:
                self._read, names = self._open_tar()
        except BROKEN as error:
            raise self._broken(error) from None
        self._found, self.passed_over = recognise(names, f"data.path: {path}")

    def __len__(self) -> int:
        return len(self._found)

    def photos(self) -> Iterator[Photo]:
        """Each photo with its bytes."""
        with self._open_files:
            for found in self._found:
                try:
                    data = self._read(found.name)
                except BROKEN as error:
                    raise self._broken(error, found.name) from None
                yield Photo(found.key, found.label, found.part, data)

    def _open_zip(self) -> tuple[Callable[[str], bytes], list[str]]:
        archive = self._open_files.enter_context(zipfile.ZipFile(self.path))
        return archive.read, [info.filename for info in archive.infolist() if not info.is_dir()]

    def _open_tar(self) -> tuple[Callable[[str], bytes], list[str]]:
        # A compressed tar can only be read from its start: unpacked once, its members are at hand in any order.
        plain = self._open_files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the exit stack closes it
        with self.path.open("rb") as file:
            compressed = file.read(6)[:2] in (b"\x1f\x8b", b"BZ", b"\xfd7")
        if compressed:
            with tarfile.open(self.path) as packed:
                unpacked = cast(IO[bytes], packed.fileobj)
                shutil.copyfileobj(unpacked, plain)
            plain.seek(0)
        source = plain if compressed else self._open_files.enter_context(self.path.open("rb"))
        archive = self._open_files.enter_context(tarfile.open(fileobj=source))  # noqa: SIM115  # likewise
        members = {member.name: member for member in archive.getmembers() if member.isfile()}

        def read(name: str) -> bytes:
            file = archive.extractfile(members[name])
            assert file is not None
            data = file.read()
            if len(data) < members[name].size:
                raise EOFError(f"{name} ends early")
            return data

        return read, list(members)

    def _broken(self, error: BaseException, member: str = "") -> DataError:
        inside = f" at {member}" if member else ""
        return DataError(f"data.path: {self.path} is no whole zip, tar or tar.gz{inside} ({error}); get it again")
