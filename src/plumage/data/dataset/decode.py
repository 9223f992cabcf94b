"""From a file's bytes to an upright RGB photo, or the reason why it is none.

Only the formats of photos are tried: Pillow knows others that run programs (EPS) or hold no picture.
"""

import io
from contextlib import suppress

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from plumage.data.sources.formats import FORMATS, SUFFIXES
from plumage.errors import PhotoError

MAX_PIXELS = 100_000_000
"""More is taken for a decompression bomb: a few kilobytes that would fill the memory."""
Image.MAX_IMAGE_PIXELS = None  # `_open` checks before anything is decoded, with a message of its own


def decode(data: bytes | memoryview) -> Image.Image:
    """The RGB photo in `data`, upright, its first frame, transparency over white. PhotoError when it is no whole photo."""
    image = _open(data)
    _load(image, data)
    return _to_rgb(image)


def pixels(data: bytes | memoryview, buffer: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """`decode`'s photo as an array, height x width x 3; a plain JPEG without Pillow, whose share of the time is the larger, and in
    `buffer`, uint8, where that is given and has the room.
    """
    data = memoryview(data).cast("B")  # Arrow's bytes are signed
    if size := _plain_jpeg_size(data):
        fits = buffer is not None and 3 * size[0] * size[1] <= buffer.size
        with suppress(ValueError):  # it knows warnings only as errors: Pillow has the last word
            plain: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", buffer=buffer if fits else None)
            return plain
    return np.array(decode(data))  # which can be written to, as torch wants it


def examine(data: bytes | memoryview, name: str) -> tuple[NDArray[np.uint8], tuple[int, int], list[str]]:
    """The photo's luma (height x width, upright), its size (width, height), and what `decode` mends in it; `name` tells the suffix.

    PhotoError as `decode` raises it: all of the file is read. The luma of a large photo comes smaller, though not under 24
    pixels a side, and a JPEG is decoded to no more than that, which spares the part of the work that could not fail.
    """
    suffix = "." + name.rpartition(".")[2].lower()
    size = _plain_jpeg_size(data) if suffix in SUFFIXES["JPEG"] else None
    if size:
        try:
            plain = simplejpeg.decode_jpeg(data, "GRAY", min_height=24, min_width=24)
            return plain[:, :, 0], size, []
        except ValueError:  # it knows warnings only as errors: Pillow has the last word
            pass
    image = _open(data)
    size = image.size
    mended = {
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
    mended["exif orientation"] = turned
    luma = image if image.mode == "L" else _to_rgb(image).convert("L")
    luma = ImageOps.exif_transpose(luma) if turned and luma is image else luma
    luma = luma.reduce(max(1, min(luma.size) // 128))
    swapped = _orientation(image) in (5, 6, 7, 8)
    return np.asarray(luma), size[::-1] if swapped else size, [mend for mend, needed in mended.items() if needed]


def _plain_jpeg_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height when `data` starts as a baseline JPEG of three colours without EXIF does: nothing to mend.

    Pillow takes half of its time for a small photo in reading the header. (Segments: ITU T.81, annex B.)
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
            return None  # EXIF, several pictures (MPO), Adobe's colours, progressive, or nothing known
        place += 2 + length
    return None


def _open(data: bytes | memoryview) -> ImageFile.ImageFile:
    """The photo with its header read and not more."""
    if not len(data):
        raise PhotoError("zero bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:  # its text holds an address, another one each time
        raise PhotoError(f"not an image (of {', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise _damaged(error, data) from None
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(f"absurdly large ({image.width:,} x {image.height:,} pixels; takes at most {MAX_PIXELS:,})")
    return image


def _load(image: Image.Image, data: bytes | memoryview) -> None:
    try:
        image.load()
    except Exception as error:
        raise _damaged(error, data) from None


def _damaged(error: Exception, data: bytes | memoryview) -> PhotoError:
    text = " ".join(str(error).split())[:120]
    kind = "truncated" if "truncated" in text.lower() or _webp_cut(data) else "broken"
    return PhotoError(f"{kind} ({type(error).__name__}: {text})")


def _webp_cut(data: bytes | memoryview) -> bool:
    head = bytes(data[:12])
    return head[:4] == b"RIFF" and head[8:] == b"WEBP" and int.from_bytes(head[4:8], "little") + 8 > len(data)


def _to_rgb(image: Image.Image) -> Image.Image:
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):  # Pillow clips these at 255: 16 bits of grey would come out white
        image, floats = image.convert("F"), image.mode == "F"
        brightest = max(1.0, float(np.asarray(image).max())) if floats else 65535
        image = image.point(lambda value: value * (255 / brightest)).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 when there is none or its EXIF can't be read."""
    if "exif" not in image.info and image.format not in ("TIFF", "PNG", "MPO"):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF in a photo that is whole otherwise
        return 1
    return value if value in range(1, 9) else 1
