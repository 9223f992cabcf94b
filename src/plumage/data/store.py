"""The data set's files: photos in their original bytes in a few large Arrow IPC files, memory-mapped.

DVC hashes, links and restores files one by one, so a few large ones keep experiments quick. Any number of processes read
them in place: opening one maps it, and a photo's bytes are a view into the map, without a copy.
"""

import bisect
import json
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from plumage.data.photo import Photo
from plumage.errors import DataError

SCHEMA = pa.schema([("key", pa.string()), ("label", pa.string()), ("part", pa.string()), ("image", pa.large_binary())])
ROWS_PER_BATCH = 256
BYTES_PER_FILE = 512 * 1024**2


def write_dataset(folder: Path, photos: Iterable[Photo]) -> list[str]:
    """Write `photos`, in their order, and classes.json into the new `folder`. Returns the classes, sorted."""
    folder.mkdir(parents=True)
    classes: set[str] = set()
    rows: list[Photo] = []
    writer: pa.RecordBatchFileWriter | None = None
    files = written = 0

    def flush() -> None:
        nonlocal writer, files, written, rows
        if writer is None:
            writer = pa.ipc.new_file(str(folder / f"images-{files:05d}.arrow"), SCHEMA)
            files, written = files + 1, 0
        columns = [[getattr(row, name) for row in rows] for name in ("key", "label", "part", "data")]
        writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
        written += sum(len(row.data) for row in rows)
        rows = []
        if written >= BYTES_PER_FILE:
            writer.close()
            writer = None

    for photo in photos:
        classes.add(photo.label)
        rows.append(photo)
        if len(rows) == ROWS_PER_BATCH:
            flush()
    if rows:
        flush()
    if writer is not None:
        writer.close()
    (folder / "classes.json").write_text(
        json.dumps(sorted(classes), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return sorted(classes)


class Dataset:
    """A data set folder, read in place. Row i of `keys`, `labels` and `parts` is the photo `photo(i)`."""

    def __init__(self, folder: Path) -> None:
        try:
            self.classes: list[str] = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
            readers = [pa.ipc.open_file(pa.memory_map(str(file))) for file in sorted(folder.glob("images-*.arrow"))]
        except (OSError, ValueError) as error:
            raise DataError(f"{folder}: is no data set ({error}); run `dvc repro download`") from None
        self._batches = [reader.get_batch(i) for reader in readers for i in range(reader.num_record_batches)]
        self._ends = list(accumulate(batch.num_rows for batch in self._batches))
        self.keys: list[str] = self._column("key")
        self.labels: list[str] = self._column("label")
        self.parts: list[str | None] = self._column("part")

    def targets(self) -> NDArray[np.int64]:
        """Each photo's label as its place in `classes`."""
        place = {name: number for number, name in enumerate(self.classes)}
        return np.array([place[label] for label in self.labels], dtype=np.int64)

    def _column(self, name: str) -> list[Any]:
        return [value for batch in self._batches for value in batch.column(name).to_pylist()]

    def __len__(self) -> int:
        return len(self.keys)

    def photo(self, index: int) -> memoryview:
        """The encoded photo, a view into the file."""
        batch = bisect.bisect_right(self._ends, index)
        start = self._ends[batch - 1] if batch else 0
        return memoryview(self._batches[batch].column("image")[index - start].as_buffer())
