"""Photo files in every format and mode that Pillow writes here, and damaged copies of them, for fuzzing the decoders."""

import io
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial

import numpy as np
from PIL import Image

from plumage.data.dataset.decode import decode, pixels
from plumage.data.dataset.ingest import check_photos
from plumage.data.sources.photo import Photo
from plumage.errors import PhotoError

with suppress(ImportError):  # pillow-heif is an extra
    from pillow_heif import register_heif_opener

    register_heif_opener()

MAX_PIXELS = 1_000_000  # of a damaged photo; its header may say billions
MODES = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F", "YCbCr", "LAB")
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM", "MPO", "HEIF")
ODD_TAGS = {
    "signed rational": (10, struct.pack("<ii", -72, 1)),
    "zero denominator": (5, struct.pack("<II", 1, 0)),
    "unknown type": (99, b"\xff\xff\xff\xff"),
    "far offset": (2, b""),
}
"""Types and values of XResolution, next to the orientation, that Pillow can't read or can't write again."""


def picture(mode: str = "RGB", size: tuple[int, int] = (34, 26)) -> Image.Image:
    """Noise with a red corner, so that a turn shows."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    noise[: size[1] // 2, : size[0] // 2] = (220, 30, 30)
    image = Image.fromarray(noise)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return Image.merge("LAB", image.split()) if mode == "LAB" else image.convert(mode)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation: int, tag: str) -> bytes:
    """An EXIF block with this orientation and one of ODD_TAGS."""
    kind, value = ODD_TAGS[tag]
    count, place = (1, 38) if value else (4000, 0xFFFFFF00)
    turn, odd = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0), struct.pack("<HHII", 0x011A, kind, count, place)
    return b"Exif\0\0II*\0\x08\0\0\0\x02\0" + turn + odd + bytes(4) + value


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_png_chunk(name: bytes, data: bytes) -> bytes:
    """A PNG with this chunk before its pixels."""
    png = saved(picture(), "PNG")
    return png[:33] + png_chunk(name, data) + png[33:]


@cache
def whole_photos() -> list[tuple[str, bytes]]:
    """Intact photos, with their formats."""
    photos = [(format, data) for format in FORMATS for mode in MODES if (data := _try_to_save(mode, format))]
    frames = {"save_all": True, "append_images": [picture().rotate(90 * turn) for turn in (1, 2)]}
    photos += [(format, saved(picture(), format, **frames)) for format in ("GIF", "WEBP", "PNG", "TIFF", "AVIF", "MPO")]
    photos += [("JPEG", saved(picture(), "JPEG", **{option: True})) for option in ("progressive", "optimize")]
    codecs = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    photos += [("TIFF", saved(picture(), "TIFF", compression=codec)) for codec in codecs]
    for tag in ODD_TAGS:
        for orientation in (0, 1, 3, 6, 9):
            photos += [
                (format, saved(picture(), format, exif=exif(orientation, tag))) for format in ("JPEG", "PNG", "WEBP")
            ]
    packed = zlib.compress(bytes(2 << 20))
    photos += [("PNG", with_png_chunk(b"zTXt", b"k\0\0" + packed)), ("PNG", with_png_chunk(b"iCCP", b"k\0\0" + packed))]
    return photos


def _try_to_save(mode: str, format: str) -> bytes | None:
    try:
        return saved(picture(mode), format)
    except (OSError, KeyError, ValueError):  # the format lacks this mode, or (HEIF) its writer isn't installed
        return None


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def changed(data: bytes, rng: random.Random) -> bytes:
    """A few random bytes, most often of the header, get random values."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(min(len(data), rng.choice((32, 128, 512, len(data)))))
        damaged[place] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(damaged)


def tampered(data: bytes, rng: random.Random) -> bytes:
    """A run of bytes is removed, or repeated elsewhere."""
    start, stop = sorted(rng.randrange(len(data)) for _ in range(2))
    run, place = data[start : min(stop, start + 200)], rng.randrange(len(data))
    if rng.random() < 0.3:
        return data[:start] + data[start + len(run) :]
    return data[:place] + run * rng.choice((1, 2, 50)) + data[place:]


def repaired_png(data: bytes) -> bytes:
    """The file with the right checksum for each PNG chunk, so that damage reaches the decoder behind it."""
    parts, place = [data[:8]], 8
    if not data.startswith(b"\x89PNG"):
        return data
    while place + 12 <= len(data):
        length = min(struct.unpack(">I", data[place : place + 4])[0], len(data) - place - 12)
        parts.append(png_chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return b"".join(parts)


DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (cut, changed, tampered)


def damaged_photo(seed: int, number: int) -> tuple[str, str, bytes]:
    """Photo `number` of a series: its format, the damage and its bytes."""
    rng = random.Random(f"{seed} {number}")
    format, data = rng.choice(whole_photos())
    damage = DAMAGES[number % len(DAMAGES)]
    data = damage(data, rng)
    return format, damage.__name__, repaired_png(data) if rng.random() < 0.5 else data


def verdict(name: str, data: bytes) -> str:
    """The reason why a photo is refused, or "". AssertionError: download, training, prediction and the data page disagree."""
    photo = Photo(name, "a", None, data)
    _, refused, _, _ = check_photos(lambda: [photo], 1, MAX_PIXELS)
    reason = refused[0]["reason"] if refused else ""
    assert reason.isprintable() and " at 0x" not in reason, reason
    for reader, read in {"training": pixels, "the data page": partial(decode, side=8)}.items():
        try:
            read(data, max_pixels=MAX_PIXELS)
        except PhotoError as error:
            assert refused, f"download takes it, {reader} says: {error}"
        else:
            assert not refused, f"{reader} takes it, download says: {reason}"
    return reason
