"""Tells a photo by the first bytes of a file, where its name doesn't: `1`, `1.jpeg_large`, `1.jpg?width=300`."""

import re

HEAD_BYTES = 32  # as many of a file's first bytes as `suffix_by_content` looks at
SIGNATURES = {
    ".jpg": rb"\xff\xd8\xff", ".png": rb"\x89PNG\r\n\x1a\n", ".gif": rb"GIF8[79]a", ".webp": rb"RIFF.{4}WEBP",
    ".bmp": rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", ".tif": rb"II\*\0|MM\0\*", ".ppm": rb"P[56]\s+[#\d]",
    ".avif": rb".{4}ftypavi[fs]", ".heic": rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)",
}  # fmt: skip
"""A pattern of the first bytes by the format's usual suffix."""
NO_PHOTOS = frozenset({
    ".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".orf", ".pef", ".raf",
    ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f",
})  # fmt: skip
"""Suffixes of camera raw files. Many start like a TIFF, whose only picture is a tiny preview."""
_PATTERNS = {suffix: re.compile(pattern, re.DOTALL) for suffix, pattern in SIGNATURES.items()}


def suffix_by_content(head: bytes) -> str:
    """The usual suffix of the photo format that a file with these first bytes has; "" if it is none."""
    return next((suffix for suffix, pattern in _PATTERNS.items() if pattern.match(head)), "")
