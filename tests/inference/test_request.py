"""A request to MLflow's server gives the bytes of its photos, or one line, without taking more memory than it is long."""

import base64
import io
import json
import tracemalloc
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from plumage.errors import PhotoError
from plumage.inference.request import JSON, PARQUET, read_request

PHOTOS = [b"\xff\xd8\xff first", b"GIF89a second"]
TEXTS = [base64.b64encode(photo).decode() for photo in PHOTOS]


def read(request: Any, max_photos: int = 10) -> list[object]:
    return read_request(json.dumps(request).encode(), JSON, max_photos)


def as_parquet(values: pa.Array, name: str = "image", **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table({name: values}), file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "request_of",
    [
        lambda texts: {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        lambda texts: {"dataframe_split": {"columns": ["x", "image"], "data": [[1, text] for text in texts]}},
        lambda texts: {"dataframe_records": [{"image": text} for text in texts]},
        lambda texts: {"inputs": texts},
        lambda texts: {"inputs": {"image": texts}},
        lambda texts: {"inputs": [{"image": text} for text in texts]},
        lambda texts: {"instances": texts},
        lambda texts: {"instances": {"image": texts}},
        lambda texts: {"instances": [{"image": text, "x": 1} for text in texts], "params": {"a": 1}},
    ],
)
def test_every_form_of_json_gives_the_photos(request_of: Any) -> None:
    assert read(request_of(TEXTS)) == PHOTOS
    assert read(request_of([])) == []
    assert read(request_of([base64.encodebytes(PHOTOS[0] * 9).decode()])) == [PHOTOS[0] * 9]


def test_parquet_gives_the_photos() -> None:
    assert read_request(as_parquet(pa.array(PHOTOS)), PARQUET, 10) == PHOTOS
    assert read_request(as_parquet(pa.array([*PHOTOS, None], pa.large_binary())), PARQUET, 10) == [*PHOTOS, None]
    assert read_request(as_parquet(pa.array([])), PARQUET, 10) == []


@pytest.mark.parametrize(
    "text", ["/etc/passwd", "photo.jpg", "data:image/gif;base64,R0lG", "R0lG_-8=", "R0lGOA", "é", "\ud800"]
)
def test_text_that_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(PhotoError, match="^photo 1: is not base64"):
        read({"inputs": [TEXTS[0], text]})


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"image\n/etc/passwd\n", "text/csv"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"", ""),
        (b"", "x" * 10_000),
        (b"", JSON),
        (b"\xff\xfe{}", JSON),
        (b"[" * 100_000, JSON),
        (b'{"inputs": ' + b"9" * 5000 + b"}", JSON),
        (b"[]", JSON),
        (b'{"messages": []}', JSON),
        (b'{"inputs": null}', JSON),
        (b'{"inputs": {"photo": ["R0lG"]}}', JSON),
        (b'{"dataframe_records": [{"photo": "R0lG"}]}', JSON),
        (b'{"dataframe_split": {"data": [["R0lG"]]}}', JSON),
        (b'{"dataframe_split": {"columns": ["image"], "data": [[]]}}', JSON),
        (b'{"dataframe_split": {"columns": ["image", "image"], "data": [["R0lG", "R0lG"]]}}', JSON),
        (b"/etc/passwd", PARQUET),
        (as_parquet(pa.array(["/etc/passwd"])), PARQUET),
        (as_parquet(pa.array([None])), PARQUET),
        (as_parquet(pa.array([[1, 2]])), PARQUET),
        (as_parquet(pa.array(PHOTOS), "photo"), PARQUET),
        (as_parquet(pa.array(PHOTOS))[:-9], PARQUET),
    ],
)  # fmt: skip
def test_a_request_without_photos_is_refused_in_one_line(body: bytes, media_type: str) -> None:
    with pytest.raises(PhotoError) as caught:
        read_request(body, media_type, 10)
    assert "\n" not in str(caught.value) and "column `image`" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_more_photos_than_allowed_are_refused() -> None:
    assert len(read({"inputs": TEXTS * 5})) == 10
    for request in ({"inputs": TEXTS * 6}, {"instances": [{"image": "?"}] * 12}):
        with pytest.raises(PhotoError, match="^12 photos; max_photos takes at most 10"):
            read(request)
    with pytest.raises(PhotoError, match="^1,000,000 photos"):
        read_request(as_parquet(pa.array([b""] * 1_000_000)), PARQUET, 10)


def test_one_long_text_among_short_ones_and_a_photo_that_all_rows_share_take_their_own_size() -> None:
    long = b"GIF89a" + bytes(1_000_000)
    mixed = json.dumps({"inputs": [base64.b64encode(long).decode(), *TEXTS * 400]}).encode()
    shared = as_parquet(pa.array([long] * 800), compression="none")
    for body, media_type in ((mixed, JSON), (shared, PARQUET)):
        tracemalloc.start()
        assert read_request(body, media_type, 1000)[0] == long
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10 * len(body)


def test_parquet_that_unpacks_to_far_more_than_its_size_is_refused() -> None:
    with pytest.raises(PhotoError, match="grows more than 20 times"):
        read_request(as_parquet(pa.array([bytes(10_000_000)]), compression="zstd"), PARQUET, 10)
