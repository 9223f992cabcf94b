"""The photos that a model was trained on, as SHA-256 hashes and thumbnails, from which no photo can be restored.

A later test set is checked against them for photos that the model has seen, even when the photos themselves are gone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from plumage.common.files import atomic_path
from plumage.data.dataset.store import SCHEMA, Dataset
from plumage.data.split.near_duplicates import group_near_duplicates
from plumage.errors import DataError

TRAINING_PHOTOS_FILE = "training_photos.parquet"
COLUMNS = pa.schema([SCHEMA.field("sha256"), SCHEMA.field("thumbnail")])


def write_training_photos(path: Path, dataset: Dataset, rows: Sequence[int]) -> None:
    """Write the hashes and thumbnails of the photos `rows` as a compressed Parquet file, one row per photo."""
    columns = []
    for field in COLUMNS:
        values = np.ascontiguousarray(dataset.bytes_column(field.name)[list(rows)])
        columns.append(pa.FixedSizeBinaryArray.from_buffers(field.type, len(values), [None, pa.py_buffer(values)]))
    with atomic_path(path) as beside:
        pq.write_table(pa.table(columns, schema=COLUMNS), beside, compression="zstd")


def seen_photos(
    path: Path, dataset: Dataset, rows: Sequence[int], similarity: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks of the photos `rows`: the same bytes as a photo in `path`, and only a near-duplicate of one.

    Near-duplicates are linked as in the split (`split.similarity`; None: none are).

    Raises:
        DataError: the file was not written by `write_training_photos`.
    """
    hashes, thumbnails = _read(path)
    known = {row.tobytes() for row in hashes}
    same = np.array([row.tobytes() in known for row in dataset.bytes_column("sha256")[list(rows)]], dtype=np.bool_)
    near = np.zeros(len(rows), np.bool_)
    if similarity is not None:
        here = dataset.bytes_column("thumbnail")[list(rows)]
        for group in group_near_duplicates(np.concatenate([here, thumbnails]), similarity):
            if group[-1] >= len(rows):  # a group is in order: its last member is a training photo
                near[[row for row in group if row < len(rows)]] = True
    return same, near & ~same


def _read(path: Path) -> list[NDArray[np.uint8]]:
    """The two columns, each photos x bytes."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path.name}: can't be read ({str(error).splitlines()[0]})") from None
    if table.schema.names != COLUMNS.names or table.schema.types != COLUMNS.types:
        raise DataError(f"{path.name}: its columns are {table.schema.names}; takes {COLUMNS.names}")
    return [
        np.frombuffer(b"".join(table.column(field.name).to_pylist()), np.uint8).reshape(-1, field.type.byte_width)
        for field in COLUMNS
    ]
