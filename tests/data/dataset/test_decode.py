"""Photos are repaired where possible, and refused with the reason where not."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from damaged import (
    FORMATS,
    ODD_TAGS,
    damaged_photo,
    picture,
    verdict,
    whole_photos,
    with_png_chunk,
)
from damaged import (
    exif as exif_block,
)
from PIL import Image, ImageDraw
from support import make_photo

from plumage.data.dataset.decode import decode, examine, pixels
from plumage.errors import PhotoError


def scene(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Blue, with red in the top left corner, so that a rotation shows."""
    image = Image.new("RGB", size, (20, 60, 200))
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2, size[1] // 2), fill=(220, 30, 30))
    return image


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    return tags


def deep_png(values: np.ndarray) -> bytes:
    """A 16-bit PNG of H x W (grey) or H x W x 3."""
    kind = 0 if values.ndim == 2 else 2
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)),
              (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]  # fmt: skip
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


SIXTEEN = np.asarray(scene(), np.uint16) * 257
TRANSPARENT = scene().convert("RGBA")
TRANSPARENT.putalpha(0)
FRAMES = [Image.new("RGB", (60, 40), "black")]
REPAIRED: dict[str, tuple[bytes, str]] = {
    "exif orientation": (
        saved(scene().transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif(6)),
        "a.jpg",
    ),
    "palette": (saved(scene().quantize(8), "PNG"), "a.png"),
    "grey": (saved(scene().convert("L"), "JPEG"), "a.jpg"),
    "alpha": (saved(scene().convert("RGBA"), "PNG"), "a.png"),
    "cmyk": (saved(scene().convert("CMYK"), "JPEG", quality=95), "a.jpg"),
    "16-bit": (deep_png(SIXTEEN), "a.png"),
    "animated": (saved(scene(), "WEBP", save_all=True, append_images=FRAMES, lossless=True), "a.webp"),
    "wrong extension": (saved(scene(), "PNG"), "a.jpg"),
    "progressive": (saved(scene(), "JPEG", quality=95, progressive=True), "a.JPEG"),
}


@pytest.mark.parametrize("what", REPAIRED)
def test_a_repaired_photo_shows_the_same_picture_and_the_repair_is_named(what: str) -> None:
    data, name = REPAIRED[what]
    luma, size, repairs = examine(data, name)
    assert repairs == [what]
    assert size == (60, 40)
    image = decode(data)
    assert (image.mode, image.size) == ("RGB", (60, 40))
    expected = scene().convert("L").convert("RGB") if what == "grey" else scene()
    assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).mean() < 6
    assert abs(luma.mean() - np.asarray(expected.convert("L")).mean()) < 6


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff", "ppm", "avif"])
def test_an_ordinary_photo_needs_no_repair(suffix: str) -> None:
    format = {"jpg": "JPEG"}.get(suffix, suffix.upper())
    assert examine(saved(scene(), format), f"a.{suffix}")[2] == (["palette"] if suffix == "gif" else [])


def test_transparency_becomes_white_whatever_colour_is_beneath() -> None:
    assert decode(saved(TRANSPARENT, "PNG")).getextrema() == ((255, 255),) * 3


def test_16_bit_grey_keeps_its_shades() -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
    row = np.asarray(decode(deep_png(ramp)))[0, :, 0].astype(int)
    assert row[0] == 0 and row[-1] == 255 and np.abs(row - np.linspace(0, 255, 64)).max() <= 1
    assert examine(deep_png(ramp), "a.png")[2] == ["16-bit", "grey"]


def huge() -> bytes:
    image = bytearray(saved(scene(), "PNG"))
    image[16:24] = struct.pack(">II", 60_000, 60_000)
    image[29:33] = struct.pack(">I", zlib.crc32(image[12:29]))
    return bytes(image)


REFUSED: dict[str, Callable[[], bytes]] = {
    "zero bytes": bytes,
    "truncated": lambda: make_photo((200, 40, 50), 0)[:700],
    "not an image": lambda: b"GIF is what I say, not what I am",
    "too large": huge,
}


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("read", [decode, lambda data: examine(data, "a.jpg"), lambda data: examine(data, "a.png")])
def test_a_file_that_is_not_a_photo_is_refused_with_the_reason(reason: str, read: Callable[[bytes], object]) -> None:
    with pytest.raises(PhotoError, match=f"^{reason}"):
        read(REFUSED[reason]())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_half_a_file_of_any_format_is_truncated(format: str) -> None:
    data = saved(Image.effect_noise((64, 64), 60).convert("RGB"), format)
    for read in (decode, lambda data: examine(data, f"a.{format.lower()}")):
        with pytest.raises(PhotoError, match="^truncated"):
            read(data[: len(data) // 2])


def test_a_file_that_would_run_a_program_is_refused() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n"
    with pytest.raises(PhotoError, match="not an image"):
        decode(postscript)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_luma_and_the_size_are_upright(orientation: int) -> None:
    data = saved(scene(), "JPEG", exif=exif(orientation))
    luma, size, _ = examine(data, "a.jpg")
    upright = decode(data)
    assert size == upright.size
    small = np.asarray(upright.convert("L").resize(luma.shape[::-1], Image.Resampling.BOX), int)
    assert np.abs(luma.astype(int) - small).mean() < 8


def test_pillow_decides_about_a_jpeg_with_a_warning() -> None:
    data = make_photo((200, 40, 50), 0)
    assert examine(data[:-2] + b"\x00\x00\xff\xd9", "a.jpg")[1] == decode(data).size


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(64, 48), (33, 21), (8, 100)], ids=str)
def test_pixels_of_a_plain_jpeg_equal_pillows(size: tuple[int, int], subsampling: str, quality: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), "JPEG", quality=quality, subsampling=subsampling)
    assert np.array_equal(pixels(data), np.asarray(decode(data)))
    assert np.array_equal(pixels(memoryview(data).cast("b")), np.asarray(decode(data)))


@pytest.mark.parametrize("what", REPAIRED)
def test_pixels_of_any_other_photo_are_repaired_as_well(what: str) -> None:
    data, _ = REPAIRED[what]
    assert np.array_equal(pixels(data), np.asarray(decode(data)))


@pytest.mark.parametrize("data", [b"", b"not a photo", make_photo((9, 9, 9), 0)[:-400]])
def test_pixels_refuses_what_decode_refuses(data: bytes) -> None:
    with pytest.raises(PhotoError):
        pixels(data)


def test_every_format_and_mode_is_taken_alike_by_download_training_and_the_data_page() -> None:
    assert {format for format, _ in whole_photos()} >= set(FORMATS) - {"HEIF"}
    for format, data in whole_photos():
        assert verdict(f"a.{format.lower()}", data) == "", format


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about metadata
def test_damaged_photos_are_taken_or_refused_alike_and_nothing_else_is_raised() -> None:
    """A seeded part of benchmarks/fuzz_photos.py."""
    refused = 0
    for number in range(300):
        format, _, data = damaged_photo(seed=0, number=number)
        refused += bool(verdict(f"a.{format.lower()}", data))
    assert 100 < refused < 290


def test_a_gif_cut_anywhere_is_taken_or_refused_alike() -> None:
    data = saved(picture(), "GIF", save_all=True, append_images=[picture().rotate(90)])
    reasons = [verdict("a.gif", data[:size]) for size in range(0, len(data), 7)]
    assert reasons[0] == "zero bytes" and "truncated (IndexError: index out of range)" in reasons and "" in reasons


@pytest.mark.parametrize("tag", ODD_TAGS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_turned_whatever_else_its_exif_holds(format: str, tag: str) -> None:
    lying = saved(scene().transpose(Image.Transpose.ROTATE_90), format, exif=exif_block(6, tag))
    image = decode(lying)
    assert image.size == (60, 40) == examine(lying, f"a.{format.lower()}")[1]
    assert image.getpixel((5, 5))[0] > 200 and image.getpixel((55, 35))[2] > 180


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 1_200_000),
        (b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(b"x" * 1_200_000)),
        (b"iCCP", b"profile\0\0" + zlib.compress(np.random.default_rng(0).bytes(2_000_000))),
    ],
    ids=["XMP", "packed XMP", "ICC"],
)
def test_a_png_with_much_metadata_is_whole(name: bytes, data: bytes) -> None:
    assert np.array_equal(pixels(with_png_chunk(name, data)), np.asarray(picture()))


def test_a_png_whose_metadata_unpacks_to_over_64_mb_is_refused() -> None:
    bomb = zlib.compress(bytes((64 << 20) + 1), 1)
    with pytest.raises(PhotoError, match="too large"):
        decode(with_png_chunk(b"zTXt", b"k\0\0" + bomb))


def test_a_very_long_photo_takes_little_memory_for_its_thumbnail() -> None:
    luma, size, _ = examine(saved(Image.new("L", (2, 300_000)), "PNG"), "a.png")
    assert size == (2, 300_000) and max(luma.shape) < 1 << 16


def test_heic_is_read_with_pillow_heif() -> None:
    pytest.importorskip("pillow_heif")
    data = saved(scene(), "HEIF", quality=95)
    _, size, repairs = examine(data, "IMG_0001.HEIC")
    assert (size, repairs) == ((60, 40), [])
    assert np.abs(pixels(data).astype(int) - np.asarray(scene(), int)).mean() < 6
    turned = saved(scene().transpose(Image.Transpose.ROTATE_90), "HEIF", quality=95, exif=exif(6).tobytes())
    assert examine(turned, "a.heic")[1] == (60, 40) == decode(turned).size
    with pytest.raises(PhotoError):
        decode(data[: len(data) // 2])


def jpeg_segments(data: bytes) -> list[bytes]:
    """The segments of a JPEG without EXIF, each scan with its data; the first is SOI and the last EOI."""
    starts = [
        0,
        *(
            at
            for at in range(2, len(data))
            if data[at] == 0xFF and data[at + 1] in {*range(0xC0, 0xD0), *range(0xD9, 0xFF)}
        ),
    ]
    return [data[start:stop] for start, stop in zip(starts, [*starts[1:], len(data)], strict=True)]


def test_a_jpeg_that_repeats_a_scan_for_minutes_is_refused() -> None:
    *before, end = jpeg_segments(saved(scene(), "JPEG", progressive=True))
    assert before[-1][:2] == b"\xff\xda"
    for data in (b"".join([*before, before[-1] * 60, end]), b"".join([*before, (b"\xff\x01" + before[-1]) * 60, end])):
        for read in (pixels, decode, lambda data: examine(data, "a.jpg")):
            with pytest.raises(PhotoError, match="more than 50 scans"):
                read(data)
    assert pixels(b"".join([*before, before[-1] * 20, end])).shape == (40, 60, 3)


def test_a_tiff_with_a_tile_far_larger_than_itself_is_refused() -> None:
    tags = {256: 10, 257: 10, 258: 8, 259: 8, 262: 1, 277: 1, 322: 40_000, 323: 40_000, 324: 300, 325: 20}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    with pytest.raises(PhotoError, match="40,000 x 40,000 pixels"):
        pixels(data.ljust(300, b"\0") + zlib.compress(bytes(1000)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_reduced_and_counts_as_reduced_unless_it_has_several_scans(mode: str) -> None:
    photo = scene((600, 400)).convert(mode)
    plain, progressive = saved(photo, "JPEG"), saved(photo, "JPEG", progressive=True)
    for side, size in ((0, (400, 600)), (201, (400, 600)), (200, (200, 300)), (100, (100, 150)), (20, (50, 75))):
        assert {pixels(data, side=side).shape[:2] for data in (plain, progressive)} == {size}
    assert pixels(plain, side=100, max_pixels=15_000).shape[:2] == (100, 150)
    for data, side in ((plain, 0), (plain, 200), (progressive, 100)):
        with pytest.raises(PhotoError, match="too large"):
            pixels(data, side=side, max_pixels=15_000)
