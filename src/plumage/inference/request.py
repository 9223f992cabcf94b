"""Read the photos in a request to a server of MLflow's protocol, in memory proportional to the request's size.

MLflow's own reader makes arrays in which every text takes as much as the longest, a table with a column per key that any
record has, and from Parquet one copy per row of a value that the file has once.
"""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from plumage.errors import PhotoError

JSON, PARQUET = "application/json", "application/vnd.apache.parquet"
COLUMN = "image"
TAKES = f"takes {JSON} or {PARQUET} with a column `{COLUMN}` of photo files, as base64 or as binary"
MAX_RATIO = 20
"""Parquet may grow this much when it is read. Photos hardly do."""


def read_request(body: bytes, media_type: str, max_photos: int) -> list[object]:
    """The values of the column `image`, in order. Text in JSON is base64 and gets decoded; what else isn't bytes stays.

    Raises:
        PhotoError: `body` isn't such a request, or has more than `max_photos`; in one line that names no path.
    """
    if media_type not in (JSON, PARQUET):
        raise PhotoError(f"the request's content type is {media_type[:80]!r}; {TAKES}")
    try:
        if media_type == PARQUET:
            return _read_parquet(body, max_photos)
        values = _find_column(json.loads(body))
    except PhotoError:
        raise
    except (ValueError, RecursionError, pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise PhotoError(f"the request is not {media_type} ({reason}); {TAKES}") from None
    _check_count(len(values), max_photos)
    return [_decode_base64(value, number) if isinstance(value, str) else value for number, value in enumerate(values)]


def _find_column(request: Any) -> Sequence[Any]:
    """The column `image` in one of the four forms of MLflow's JSON."""
    match request:
        case {"dataframe_split": {"columns": [*names], "data": [*rows]}} if names.count(COLUMN) == 1:
            at = names.index(COLUMN)
            if all(isinstance(row, list) and len(row) == len(names) for row in rows):
                return [row[at] for row in rows]
        case {"inputs": {"image": [*values]}} | {"instances": {"image": [*values]}}:
            return values
        case {"inputs": {"image": str(value)}} | {"instances": {"image": str(value)}}:
            return [value]
        case {"dataframe_records": [*rows]} if all(isinstance(row, dict) and COLUMN in row for row in rows):
            return [row[COLUMN] for row in rows]
        case {"inputs": [*rows]} | {"instances": [*rows]}:
            if all(not isinstance(row, dict) or COLUMN in row for row in rows):
                return [row[COLUMN] if isinstance(row, dict) else row for row in rows]
    raise PhotoError(f"the request has no photos in dataframe_split, dataframe_records, inputs or instances; {TAKES}")


def _read_parquet(body: bytes, max_photos: int) -> list[object]:
    file = parquet.ParquetFile(io.BytesIO(body))
    _check_count(file.metadata.num_rows, max_photos)
    if not file.metadata.num_rows:
        return []
    if file.schema_arrow.names.count(COLUMN) != 1:
        raise PhotoError(f"the request does not have one column `{COLUMN}`; {TAKES}")
    kind = file.schema_arrow.field(COLUMN).type
    if kind not in (pa.binary(), pa.large_binary()):
        raise PhotoError(f"the column `{COLUMN}` is {kind}; {TAKES}")
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    if sum(group.total_byte_size for group in groups) > MAX_RATIO * len(body):
        raise PhotoError(f"the request is Parquet that grows more than {MAX_RATIO} times when it is read")
    values: list[object] = []
    for chunk in parquet.ParquetFile(io.BytesIO(body), read_dictionary=[COLUMN]).read([COLUMN]).column(0).chunks:
        photos = [*chunk.dictionary.to_pylist(), None]  # one object per value, however many rows have it
        values += [photos[index] for index in chunk.indices.fill_null(len(photos) - 1).to_pylist()]
    return values


def _check_count(count: int, max_photos: int) -> None:
    if count > max_photos:
        raise PhotoError(f"{count:,} photos; max_photos takes at most {max_photos:,}")


def _decode_base64(text: str, number: int) -> bytes:
    """The bytes of base64 in the standard alphabet; white space is ignored, as MLflow does."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise PhotoError(f"photo {number}: is not base64 of the standard alphabet with padding") from None
