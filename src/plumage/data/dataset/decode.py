"""Decode a file to an upright RGB photo, or give the reason why it isn't one.

Only photo formats are tried: Pillow knows others that run programs (EPS) or hold no picture.
"""

import io
from contextlib import suppress

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from plumage.data.sources.photo import FORMATS, SUFFIXES
from plumage.errors import PhotoError

MAX_PIXELS = 100_000_000  # more counts as a decompression bomb: a few kilobytes that would fill the memory
Image.MAX_IMAGE_PIXELS = None  # `_open` checks the size itself, before decoding


def decode(data: bytes | memoryview) -> Image.Image:
    """Decode to RGB: upright, the first frame, transparency over white. PhotoError when `data` isn't a complete photo."""
    image = _open(data)
    _load(image, data)
    return _to_rgb(image)


def pixels(data: bytes | memoryview, buffer: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Decode as `decode` does, to an array: height x width x 3, uint8.

    A plain JPEG is decoded without Pillow, whose overhead exceeds the decoding, into `buffer` (uint8) if it fits.
    """
    data = memoryview(data).cast("B")  # Arrow's bytes are signed
    if size := _plain_jpeg_size(data):
        fits = buffer is not None and 3 * size[0] * size[1] <= buffer.size
        with suppress(ValueError):  # simplejpeg raises on warnings too: let Pillow decide
            plain: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", buffer=buffer if fits else None)
            return plain
    return np.array(decode(data))  # writable, as torch expects


def examine(data: bytes | memoryview, name: str) -> tuple[NDArray[np.uint8], tuple[int, int], list[str]]:
    """Return the photo's luma (height x width, upright), its size (width, height) and the repairs that `decode` makes.

    `name` gives the suffix. The whole file is read, so that it raises PhotoError where `decode` does. The luma of a large
    photo is reduced, to 24 pixels per side or more; a JPEG is decoded at that size, which skips only work that can't fail.
    """
    suffix = "." + name.rpartition(".")[2].lower()
    size = _plain_jpeg_size(data) if suffix in SUFFIXES["JPEG"] else None
    if size:
        with suppress(ValueError):  # simplejpeg raises on warnings too: let Pillow decide
            plain = simplejpeg.decode_jpeg(data, "GRAY", min_height=24, min_width=24)
            return plain[:, :, 0], size, []
    image = _open(data)
    size = image.size
    repairs = {
        "16-bit": any("16" in str(tile.args) for tile in image.tile),
        "palette": image.mode in ("P", "PA"),
        "grey": image.mode in ("L", "LA", "1") or image.mode.startswith(("I", "F")),
        "alpha": image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info,
        "cmyk": image.mode == "CMYK",
        "animated": image.format != "MPO" and getattr(image, "is_animated", False),
        "wrong extension": suffix not in SUFFIXES[image.format or ""],
        "progressive": bool(image.info.get("progressive")),
    }
    if image.mode == "RGB":
        image.draft("L", (24, 24))
    _load(image, data)
    turned = _orientation(image) != 1
    repairs["exif orientation"] = turned
    luma = image if image.mode == "L" else _to_rgb(image).convert("L")
    luma = ImageOps.exif_transpose(luma) if turned and luma is image else luma
    luma = luma.reduce(max(1, min(luma.size) // 128))
    swapped = _orientation(image) in (5, 6, 7, 8)
    return np.asarray(luma), size[::-1] if swapped else size, [repair for repair, needed in repairs.items() if needed]


def _plain_jpeg_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height if `data` starts like a baseline JPEG of three channels without EXIF, which needs no repair.

    Pillow spends half of its time for a small photo on the header. (Segments: ITU T.81, annex B.)
    """
    if bytes(data[:2]) != b"\xff\xd8":
        return None
    place = 2
    while place + 10 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], data[place + 2] << 8 | data[place + 3]
        if marker in (0xC0, 0xC1):
            height, width = data[place + 5] << 8 | data[place + 6], data[place + 7] << 8 | data[place + 8]
            plain = data[place + 4] == 8 and data[place + 9] == 3 and 0 < width * height <= MAX_PIXELS
            return (width, height) if plain else None
        if marker in (0xE1, 0xE2, 0xEE) or not (0xE0 <= marker <= 0xEF or marker in (0xDB, 0xC4, 0xDD, 0xFE)):
            return None  # EXIF, several pictures (MPO), Adobe's colours, progressive, or unknown
        place += 2 + length
    return None


def _open(data: bytes | memoryview) -> ImageFile.ImageFile:
    """Open the photo; only its header is read."""
    if not len(data):
        raise PhotoError("zero bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:  # its text contains an object's address, which changes
        raise PhotoError(f"not an image (of {', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise _damaged(error, data) from None
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(f"too large ({image.width:,} x {image.height:,} pixels; takes at most {MAX_PIXELS:,})")
    return image


def _load(image: Image.Image, data: bytes | memoryview) -> None:
    try:
        image.load()
    except Exception as error:
        raise _damaged(error, data) from None


def _damaged(error: Exception, data: bytes | memoryview) -> PhotoError:
    text = " ".join(str(error).split())[:120]
    kind = "truncated" if "truncated" in text.lower() or _is_cut_webp(data) else "broken"
    return PhotoError(f"{kind} ({type(error).__name__}: {text})")


def _is_cut_webp(data: bytes | memoryview) -> bool:
    head = bytes(data[:12])
    return head[:4] == b"RIFF" and head[8:] == b"WEBP" and int.from_bytes(head[4:8], "little") + 8 > len(data)


def _to_rgb(image: Image.Image) -> Image.Image:
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):  # Pillow clips these at 255: 16-bit grey would turn white
        image, floats = image.convert("F"), image.mode == "F"
        brightest = max(1.0, float(np.asarray(image).max())) if floats else 65535
        image = image.point(lambda value: value * (255 / brightest)).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 when it is missing or unreadable."""
    if "exif" not in image.info and image.format not in ("TIFF", "PNG", "MPO"):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF in an otherwise intact photo
        return 1
    return value if value in range(1, 9) else 1
