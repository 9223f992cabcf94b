"""The data set's files: photos in their original bytes in a few large Arrow IPC files, memory-mapped and read without a copy.

DVC hashes, links and restores file by file, so a few large files keep experiments quick.
"""

import bisect
import copy
import json
import mmap
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from plumage.common.files import read_json, remove
from plumage.data.dataset.thumbnail import SIDE
from plumage.errors import DataError

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("part", pa.string()),  # the split that the source assigns; null: none
        ("width", pa.int32()),  # in pixels, upright
        ("height", pa.int32()),
        ("brightness", pa.uint8()),  # mean luma
        ("sha256", pa.binary(32)),
        ("thumbnail", pa.binary(SIDE**2)),  # luma, row by row (thumbnail.py)
        ("image", pa.large_binary()),  # original bytes
    ]
)
BYTES_PER_FILE = 512 * 1024**2
BATCHES_PER_RELEASE = 256


def write_dataset(folder: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Write record batches of SCHEMA, in order, and classes.json into the new `folder`."""
    folder.mkdir(parents=True)
    classes: set[str] = set()
    writer: pa.RecordBatchFileWriter | None = None
    num_files = file_bytes = 0
    try:
        for batch in batches:
            if writer is None or file_bytes >= BYTES_PER_FILE:
                if writer is not None:
                    writer.close()
                writer = pa.ipc.new_file(str(folder / f"images-{num_files:05d}.arrow"), SCHEMA)
                num_files, file_bytes = num_files + 1, 0
            writer.write_batch(batch)
            file_bytes += batch.nbytes
            classes.update(pc.unique(batch.column("label")).to_pylist())
    finally:
        if writer is not None:
            writer.close()
    names = json.dumps(sorted(classes), indent=1, ensure_ascii=False)
    (folder / "classes.json").write_text(names + "\n", encoding="utf-8")


def read_batch(rows: bytes) -> pa.RecordBatch:
    """Read a record batch of SCHEMA from its Arrow IPC bytes."""
    return pa.ipc.read_record_batch(pa.py_buffer(rows), SCHEMA)


def with_labels(batch: pa.RecordBatch, names: Callable[[str], str]) -> pa.RecordBatch:
    """The batch with each label replaced by what `names` says."""
    labels = [names(label) for label in batch.column("label").to_pylist()]
    columns = [pa.array(labels) if field.name == "label" else batch.column(field.name) for field in SCHEMA]
    return pa.record_batch(columns, schema=SCHEMA)


def leave_out(folder: Path, rows: set[int]) -> None:
    """Rewrite the data set in `folder` without `rows`."""
    dataset, kept = Dataset(folder), folder / "kept"
    write_dataset(kept, dataset.batches_without(rows))
    for old in folder.glob("*.*"):
        old.unlink()
    for new in kept.iterdir():
        new.rename(folder / new.name)
    remove(kept)


class _File:
    """One of the data set's files, mapped into memory."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
        self.batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        for batch in self.batches:
            batch.validate(full=True)  # damaged offsets would read beyond the file

    def columns(self, name: str) -> Iterator[pa.Array]:
        """Yield a column of each batch, and release mapped pages on the way: else all would count as this process's memory."""
        for start in range(0, len(self.batches), BATCHES_PER_RELEASE):
            for batch in self.batches[start : start + BATCHES_PER_RELEASE]:
                yield batch.column(name)
            self._map.madvise(mmap.MADV_DONTNEED)


class Dataset:
    """A data set folder, read in place. Row i of `keys`, `labels` and `official_splits` belongs to the photo `photo(i)`."""

    def __init__(self, folder: Path) -> None:
        try:
            self.classes: list[str] = read_json(folder / "classes.json")
            if not isinstance(self.classes, list) or not all(isinstance(name, str) for name in self.classes):
                raise ValueError("classes.json is not a list of names")
            self._files = [_File(path) for path in sorted(folder.glob("images-*.arrow"))]
        except (OSError, ValueError) as error:
            raise DataError(f"{folder}: is not a data set ({error}); run `dvc repro download`") from None
        self._batches = [batch for file in self._files for batch in file.batches]
        self._ends = list(accumulate(batch.num_rows for batch in self._batches))
        self.keys: list[str] = self.column("key")
        self.labels: list[str] = self.column("label")
        self.official_splits: list[str | None] = self.column("part")
        if unknown := set(self.labels) - set(self.classes):
            raise DataError(f"{folder}: classes.json lacks {unknown.pop()!r}; run `dvc repro download`")

    def targets(self) -> NDArray[np.int64]:
        """Each photo's label as an index into `classes`."""
        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index[label] for label in self.labels], dtype=np.int64)

    def relabelled(self, labels: list[str]) -> Self:
        """The same photos under other labels, one per row; its classes are the labels that occur."""
        other = copy.copy(self)
        other.labels, other.classes = labels, sorted(set(labels))
        return other

    def column(self, name: str) -> list[Any]:
        """A column of SCHEMA, one value per row; equal strings are one object."""
        values: list[Any] = []
        known: dict[Any, Any] = {}
        for array in self._arrays(name):
            values += [known.setdefault(value, value) for value in array.to_pylist()]
        return values

    def _arrays(self, name: str) -> Iterator[pa.Array]:
        return chain.from_iterable(file.columns(name) for file in self._files)

    def bytes_column(self, name: str) -> NDArray[np.uint8]:
        """A fixed-width column (sha256, thumbnail): photos x bytes, uint8."""
        width = SCHEMA.field(name).type.byte_width
        rows = np.empty((len(self), width), np.uint8)
        start = 0
        for array in self._arrays(name):
            stop = start + len(array)
            rows[start:stop] = np.frombuffer(array.buffers()[1], np.uint8, len(array) * width).reshape(-1, width)
            start = stop
        return rows

    def batches_without(self, rows: set[int]) -> Iterator[pa.RecordBatch]:
        """Yield the record batches without `rows`."""
        start = 0
        for batch, end in zip(self._batches, self._ends, strict=True):
            keep = [row not in rows for row in range(start, end)]
            yield batch if all(keep) else batch.filter(pa.array(keep, pa.bool_()))
            start = end

    def sizes(self) -> list[int]:
        """The size of each photo in bytes."""
        return [size for array in self._arrays("image") for size in pc.binary_length(array).to_pylist()]

    def __len__(self) -> int:
        return len(self.keys)

    def photo(self, index: int) -> memoryview:
        """The encoded photo, as a view into the file."""
        batch = bisect.bisect_right(self._ends, index)
        start = self._ends[batch - 1] if batch else 0
        return memoryview(self._batches[batch].column("image")[index - start].as_buffer())
