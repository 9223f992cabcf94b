"""Which photos a model has learned from, kept beside it: their SHA-256 and thumbnails, from which no photo can be had back.

With them a later test set is checked for photos that the model has seen, when the photos themselves are long gone.
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
    """Write sha256 and thumbnail of the photos `rows`, a row a photo, as a compressed Parquet file."""
    columns = []
    for field in COLUMNS:
        values = np.ascontiguousarray(dataset.bytes_column(field.name)[list(rows)])
        columns.append(pa.FixedSizeBinaryArray.from_buffers(field.type, len(values), [None, pa.py_buffer(values)]))
    with atomic_path(path) as beside:
        pq.write_table(pa.table(columns, schema=COLUMNS), beside, compression="zstd")


def seen_photos(
    path: Path, dataset: Dataset, rows: Sequence[int], similarity: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which of the photos `rows` are among those in `path`: the same bytes; else, a near-duplicate of one.

    Near-duplicates are linked as the split links them (`split.similarity`; null: not at all).

    Raises:
        DataError: the file is none that `write_training_photos` has written.
    """
    hashes, thumbnails = _read(path)
    known = {row.tobytes() for row in hashes}
    same = np.array([row.tobytes() in known for row in dataset.bytes_column("sha256")[list(rows)]], dtype=np.bool_)
    near = np.zeros(len(rows), np.bool_)
    if similarity is not None:
        here = dataset.bytes_column("thumbnail")[list(rows)]
        for group in group_near_duplicates(np.concatenate([here, thumbnails]), similarity):
            if group[-1] >= len(rows):  # rows are in order: the last is one of the training photos
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
