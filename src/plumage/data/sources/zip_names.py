"""The names of a zip's members, whatever wrote it: forward slashes as separators, in the encoding of its maker.

A zip says in a flag that a name is UTF-8; without it, a name is CP437 (APPNOTE.TXT, appendix D). But macOS writes UTF-8 without the
flag, Japanese Windows writes Shift-JIS, and older .NET separates folders by backslashes. Info-ZIP adds a field with the UTF-8 name.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Sequence

UTF8_FLAG = 0x800
UNICODE_PATH = 0x7075  # the extra field with a UTF-8 name (APPNOTE.TXT, 4.6.9)
JAPANESE = re.compile(
    r"[\0-\x7f\u3000-\u30ff\u4e00-\u9fff\uff01-\uff5e]*[\u3041-\u30ff][\0-\x7f\u3000-\u30ff\u4e00-\u9fff\uff01-\uff5e]*"
)
"""Japanese text with kana, which other encodings hardly give by chance."""


def zip_names(members: Sequence[zipfile.ZipInfo]) -> tuple[list[str], str | None]:
    """The name of each member (that of a folder ends with a slash), and the encoding that was assumed, if it isn't UTF-8."""
    known = [info.filename if info.flag_bits & UTF8_FLAG else _unicode_path(info) for info in members]
    raw = [_raw(info) for info, name in zip(members, known, strict=True) if name is None]
    encoding = name_encoding(raw)
    rest = (name.decode(encoding) for name in raw)
    names = [next(rest) if name is None else name for name in known]
    return [name.replace("\\", "/") for name in names], None if encoding == "utf-8" else encoding


def name_encoding(raw: Sequence[bytes]) -> str:
    """The encoding of all the names `raw`: UTF-8 or Shift-JIS where they certainly are, else CP437, in which any name is valid."""
    for encoding in ("utf-8", "cp932"):
        try:
            text = "\n".join(name.decode(encoding) for name in raw)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or JAPANESE.fullmatch(text):
            return encoding
    return "cp437"


def _raw(info: zipfile.ZipInfo) -> bytes:
    """The bytes of a name without the flag, which zipfile reads as CP437; one of ASCII characters is the same in all encodings."""
    return info.orig_filename.partition("\0")[0].encode("cp437", "replace")


def _unicode_path(info: zipfile.ZipInfo) -> str | None:
    """The name in the extra field, if it belongs to the name in the header, by its checksum."""
    place = 0
    while place + 9 <= len(info.extra):
        kind, size, _, crc = struct.unpack_from("<HHBI", info.extra, place)
        if kind == UNICODE_PATH and crc == zlib.crc32(_raw(info)):
            return info.extra[place + 9 : place + 4 + size].decode("utf-8", "replace")
        place += 4 + size
    return None
