"""The members of a tar of unknown origin. `tarfile` believes its headers: it reads as much, and as far back, as they say."""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAX_HEADER_BYTES = (
    1024**2
)  # of a member's headers: its pax header, which has extended attributes, long name and map of holes
MAX_GLOBAL_RECORDS = 100  # of pax headers for all members, which are applied to each
LONG_NUMBER = re.compile(rb"\d{256}")


def tar_members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the members of the tar at `path`, which is not compressed. Memory and time are bounded by its size.

    Raises:
        tarfile.TarError: a header is damaged, or the tar ends early.
    """
    with path.open("rb") as file:
        headers: Any = _Headers(file, path.stat().st_size)
        archive = tarfile.TarFile(fileobj=headers)
        place = -1
        for member in archive:
            headers.start_member()
            archive.members = []  # type: ignore[attr-defined]  # else a million members would stay in memory
            if len(archive.pax_headers) > MAX_GLOBAL_RECORDS:
                raise tarfile.ReadError(f"its global header has over {MAX_GLOBAL_RECORDS} records")
            if member.size < 0 or archive.offset <= place:
                raise tarfile.ReadError(f"the header of {member.name!r} says {member.size:,} bytes")
            place = archive.offset
            yield member
        # A damaged header in the middle ends the iteration as the end of the tar does: a block of zeros, or nothing.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"the header at byte {archive.offset:,} is damaged")


class _Headers:
    """The file of a tar whose headers are read: forward, inside the file, and in small pieces."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.tell = file.tell
        self.start_member()

    def start_member(self) -> None:
        self._left = MAX_HEADER_BYTES

    def seek(self, place: int) -> int:
        if not self._file.tell() <= place <= self._size:
            raise tarfile.ReadError(f"a header leads to byte {place:,} of {self._size:,}")
        return self._file.seek(place)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f"a member has headers of over {MAX_HEADER_BYTES:,} bytes")
        data = self._file.read(size)
        if LONG_NUMBER.search(data):  # before Python 3.11.10 its length squared is the time that a pax header takes
            raise tarfile.ReadError("a header holds a number of over 255 digits")
        return data
