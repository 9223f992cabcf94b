"""A photo's format is told by how its file starts."""

import pytest
from damaged import whole_photos

from plumage.data.sources.photo import format_of


def test_every_photo_shows_its_format() -> None:
    for format, data in whole_photos():
        assert format_of(data) == {"MPO": "JPEG"}.get(format, format)
        assert format_of(memoryview(data).cast("b")[:64]) == format_of(data)


@pytest.mark.parametrize(
    ("start", "format"),
    [
        (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x20ftypmp42\0\0\0\0mp42isom", None),
        (b"II+\0\x08\0\0\0", "TIFF"),
        (b"P5\n# made by a scanner\n40 30\n255\n", "PPM"),
        (b"", None),
        (b"Photos of May", None),
        (b"BMW in front of the house", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"%!PS-Adobe-3.0 EPSF-3.0", None),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
    ],
)
def test_other_files_show_none(start: bytes, format: str | None) -> None:
    assert format_of(start) == format
