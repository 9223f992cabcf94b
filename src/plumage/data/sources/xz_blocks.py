"""Unpack an .xz within a memory limit, which `lzma.LZMAFile` does not take.

Unpacking takes as much memory as the dictionary that the file was packed with: up to 64 MiB by `xz -9`, and 4 GiB at most.
"""

import lzma
from collections.abc import Generator
from pathlib import Path

MAX_DICTIONARY = 256 * 1024**2
MAX_MEMORY = MAX_DICTIONARY + 1024**2  # the decoder's own
BLOCK_BYTES = 1024**2
TOO_LARGE = "Memory usage limit exceeded"
"""The text of the LZMAError that `lzma` raises for this and other faults."""


def xz_blocks(path: Path) -> Generator[bytes, None, None]:
    """Yield what `path` unpacks to, in blocks of at most BLOCK_BYTES. A file may hold several streams.

    Raises:
        MemoryError: a dictionary of more than MAX_DICTIONARY bytes, or more than there is memory for.
        lzma.LZMAError, EOFError: the file is damaged or incomplete.
    """
    with path.open("rb") as file:
        packed = file.read(BLOCK_BYTES)
        while packed:
            stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_MEMORY)
            while not stream.eof:
                yield _decompress(stream, packed)
                packed = file.read(BLOCK_BYTES) if stream.needs_input else b""
                if stream.needs_input and not packed:
                    raise EOFError("the compressed file ends early")
            packed = stream.unused_data.lstrip(b"\0")
            while not packed and (block := file.read(BLOCK_BYTES)):  # zeros pad a stream, as many as one likes
                packed = block.lstrip(b"\0")


def _decompress(stream: lzma.LZMADecompressor, packed: bytes) -> bytes:
    try:
        return stream.decompress(packed, BLOCK_BYTES)
    except lzma.LZMAError as error:
        if str(error) == TOO_LARGE:
            raise MemoryError(TOO_LARGE) from None
        raise
