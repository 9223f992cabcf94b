"""Decode a file to an upright RGB photo, or give the reason why it isn't one.

Only photo formats are tried: Pillow knows others that run programs (EPS) or hold no picture. A damaged file makes a decoder
raise nearly anything, at any step: all of it becomes a PhotoError.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from plumage.common.extras import install_line
from plumage.config import MAX_PIXELS
from plumage.data.sources.photo import SUFFIXES, format_of
from plumage.errors import PhotoError

FORMATS = tuple(format for format in SUFFIXES if format not in ("MPO", "HEIF"))  # Pillow opens MPO as JPEG
INSTALL_HEIC = install_line("heic")
NEEDS_PILLOW_HEIF = f"HEIC, which needs pillow-heif; {INSTALL_HEIC}"
LONGEST_SIDE = 1 << 15  # of the luma, in pixels; sides of up to twice this stay as they are
MAX_SCANS = 50
"""A progressive JPEG has about 10 scans. Each takes the time of a whole decoding, and may be of a few bytes."""
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What makes a photo of each EXIF orientation upright."""

Image.MAX_IMAGE_PIXELS = None  # `_open` checks the size itself, before decoding
# Pillow's limits refuse long XMP packets and colour profiles. These allow the memory of a 20-megapixel photo per chunk.
PngImagePlugin.MAX_TEXT_CHUNK = 64 << 20
PngImagePlugin.MAX_TEXT_MEMORY = 256 << 20
warnings.filterwarnings("ignore", module=r"PIL\.")  # about metadata that isn't used


def decode(data: bytes | memoryview, max_pixels: int | None = MAX_PIXELS, side: int = 0) -> Image.Image:
    """Decode to RGB: upright, the first frame, transparency over white.

    With `side`, a JPEG is decoded at a half, quarter or eighth of its size if no side gets shorter than this. `max_pixels`
    guards the memory, so a JPEG of one scan counts as reduced; None is for photos of the data set, which are known to fit.

    Raises:
        PhotoError: `data` isn't a complete photo, or has more pixels than `max_pixels`.
    """
    with _refusal(data):
        image = _open(data, max_pixels, side=side)
        image.load()
        return _to_rgb(_turned(image, _orientation(image)))


def pixels(
    data: bytes | memoryview,
    buffer: NDArray[np.uint8] | None = None,
    max_pixels: int | None = MAX_PIXELS,
    side: int = 0,
) -> NDArray[np.uint8]:
    """Decode as `decode` does, to an array: height x width x 3, uint8.

    A plain JPEG is decoded without Pillow, whose overhead exceeds the decoding, into `buffer` (uint8) if it fits.
    """
    data = memoryview(data).cast("B")  # Arrow's bytes are signed
    if size := plain_jpeg_size(data, max_pixels):
        factor = next((n for n in (8, 4, 2) if side and min(size) >= n * side), 1)  # as Pillow's `draft`
        width, height = (-(-length // factor) for length in size)
        fits = buffer is not None and 3 * width * height <= buffer.size
        with suppress(Exception):  # simplejpeg raises on warnings too: let Pillow decide
            plain: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                data, "RGB", min_height=height, min_width=width, buffer=buffer if fits else None
            )
            return plain
    return np.array(decode(data, max_pixels, side))  # writable, as torch expects


def examine(
    data: bytes | memoryview, name: str, max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], tuple[int, int], list[str]]:
    """Return the photo's luma (height x width, upright), its size (width, height) and the repairs that `decode` makes.

    `name` gives the suffix. The whole file is read, so that it raises PhotoError where `decode` does. The luma of a large
    photo is reduced, to 24 pixels per side or more; a JPEG is decoded at that size, which skips only work that can't fail.
    """
    suffix = "." + name.rpartition(".")[2].lower()
    size = plain_jpeg_size(data, max_pixels) if suffix in SUFFIXES["JPEG"] else None
    if size:
        with suppress(Exception):  # simplejpeg raises on warnings too: let Pillow decide
            plain = simplejpeg.decode_jpeg(data, "GRAY", min_height=24, min_width=24)
            return plain[:, :, 0], size, []
    with _refusal(data):
        image = _open(data, max_pixels, "data.max_pixels takes")
        repairs = _repairs(image, suffix)
        size = image.size
        if image.mode == "RGB":
            image.draft("L", (24, 24))
        image.load()
        orientation = _orientation(image)
        repairs["exif orientation"] = orientation != 1
        upright = _turned(image, orientation)
        luma = upright if image.mode == "L" else _to_rgb(upright).convert("L")
        factor = max(1, min(luma.size) // 128)
        luma = luma.reduce((max(factor, luma.width // LONGEST_SIDE), max(factor, luma.height // LONGEST_SIDE)))
        size = size[::-1] if orientation in (5, 6, 7, 8) else size
        return np.asarray(luma), size, [repair for repair, needed in repairs.items() if needed]


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB as `decode` does: upright, transparency over white. PhotoError when it can't be decoded."""
    with _refusal(b""):
        image.load()
        return _to_rgb(_turned(image, _orientation(image)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):  # Pillow clips these at 255: 16-bit grey would turn white
        image, floats = image.convert("F"), image.mode == "F"
        brightest = max(1.0, float(np.asarray(image).max())) if floats else 65535
        image = image.point(lambda value: value * (255 / brightest)).convert("L")
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _repairs(image: ImageFile.ImageFile, suffix: str) -> dict[str, bool]:
    """What the header says of each repair."""
    return {
        "16-bit": any("16" in str(tile.args) for tile in image.tile),
        "palette": image.mode in ("P", "PA"),
        "grey": image.mode in ("L", "LA", "1") or image.mode.startswith(("I", "F")),
        "alpha": image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info,
        "cmyk": image.mode == "CMYK",
        "animated": image.format != "MPO" and getattr(image, "is_animated", False),
        "wrong extension": suffix not in SUFFIXES[image.format or ""],
        "progressive": bool(image.info.get("progressive")),
    }


def plain_jpeg_size(data: bytes | memoryview, max_pixels: int | None) -> tuple[int, int] | None:
    """Width and height if `data` starts like a baseline JPEG of three channels, one scan and no EXIF, which needs no repair.

    Pillow spends half of its time for a small photo on the header. (Segments: ITU T.81, annex B.)
    """
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    place, size = 2, None
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], data[place + 2] << 8 | data[place + 3]
        if marker == 0xDA:  # one scan of all channels
            return size if data[place + 4] == 3 else None
        if marker in (0xC0, 0xC1):
            height, width = data[place + 5] << 8 | data[place + 6], data[place + 7] << 8 | data[place + 8]
            fits = width * height > 0 and (max_pixels is None or width * height <= max_pixels)
            size = (width, height) if fits and data[place + 4] == 8 and data[place + 9] == 3 else None
        elif marker in (0xE1, 0xE2, 0xEE) or not (0xE0 <= marker <= 0xEF or marker in (0xDB, 0xC4, 0xDD, 0xFE)):
            return None  # EXIF, several pictures (MPO), Adobe's colours, progressive, or unknown
        place += 2 + length
    return None


def _open(data: bytes | memoryview, max_pixels: int | None, takes: str = "takes", side: int = 0) -> ImageFile.ImageFile:
    """Open the photo; only its header is read, and for a GIF that of its second frame. `side` is as in `decode`."""
    if not len(data):
        raise PhotoError("zero bytes")
    formats = FORMATS
    if format_of(data) == "HEIF":
        if not _reads_heif():
            raise PhotoError(NEEDS_PILLOW_HEIF)
        formats = ("HEIF",)
    image = Image.open(io.BytesIO(data), formats=formats)
    whole, scans = image.size, 1
    if isinstance(image, JpegImagePlugin.JpegImageFile):  # MPO, too
        scans = 1 if max_pixels is None else _count_scans(data)
        if side:
            image.draft(image.mode, (side, side))
    if max_pixels is not None:
        reduced = scans == 1 and whole[0] * whole[1] <= MAX_PIXELS  # several scans are held in memory whole
        for width, height in (image.size if reduced else whole, _tile_size(image)):
            if width * height > max_pixels:
                raise PhotoError(f"too large ({width:,} x {height:,} pixels; {takes} at most {max_pixels:,})")
    getattr(image, "is_animated", False)  # reads on in a GIF: `examine` and `decode` refuse the same ones
    return image


def _count_scans(data: bytes | memoryview) -> int:
    """The number of scans in a JPEG's first picture. (Markers: ITU T.81, annex B.) PhotoError if there are too many."""
    place, scans = 2, 0
    while (found := MARKER.search(data, place)) and data[found.start() + 1] != 0xD9:
        scans += data[found.start() + 1] == 0xDA
        if scans > MAX_SCANS:
            raise PhotoError(f"broken (a JPEG of more than {MAX_SCANS} scans)")
        place = found.end() + int.from_bytes(bytes(data[found.end() : found.end() + 2]), "big")
    return scans


def _tile_size(image: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, which may exceed the picture's; (0, 0) without tiles."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(TiffImagePlugin.TILEWIDTH, 0), tags.get(TiffImagePlugin.TILELENGTH, 0)


@cache
def _reads_heif() -> bool:
    """Whether pillow-heif is installed; Pillow reads HEIC from then on."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


@contextmanager
def named(name: str) -> Iterator[None]:
    """Prefix a PhotoError with the photo's name."""
    try:
        yield
    except PhotoError as error:
        raise PhotoError(f"{name}: {error}") from None


@contextmanager
def _refusal(data: bytes | memoryview) -> Iterator[None]:
    """Turn whatever is raised while `data` is decoded into a PhotoError with the reason."""
    try:
        yield
    except PhotoError:
        raise
    except UnidentifiedImageError:  # its text contains an object's address, which changes
        start = format_of(data)
        known = ", ".join(format for format in SUFFIXES if format != "MPO")
        raise PhotoError(
            f"broken (its {start} header can't be read)" if start else f"not an image (of {known})"
        ) from None
    except MemoryError:
        raise PhotoError("there is not enough memory to decode it") from None
    except Exception as error:
        text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())[:120]
        kind = "truncated" if "truncated" in text.lower() or _is_cut(data) else "broken"
        raise PhotoError(f"{kind} ({type(error).__name__}: {text})") from None


def _is_cut(data: bytes | memoryview) -> bool:
    """Whether a WebP is shorter than it says, or a GIF lacks its last byte."""
    head = bytes(data[:12])
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return int.from_bytes(head[4:8], "little") + 8 > len(data)
    return head[:4] == b"GIF8" and bytes(data[-1:]) != b";"


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image made upright. Its EXIF isn't rewritten, as `ImageOps.exif_transpose` does: odd tags can't be."""
    return image.transpose(TURNS[orientation]) if orientation != 1 else image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 when it is missing or unreadable."""
    if "exif" not in image.info and image.format not in ("TIFF", "PNG", "MPO"):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(value) if value in TURNS else 1
    except Exception:  # damaged EXIF in an otherwise intact photo
        return 1
