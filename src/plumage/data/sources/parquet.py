"""Photos in parquet files, one row per photo with image and label, as most data sets on the Hugging Face Hub.

A value that a file has once may stand in a million rows: labels are read as a dictionary, and memory holds each once.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from plumage.config import MAX_BYTES
from plumage.data.sources.archive import BOMB_BYTES, MAX_RATIO
from plumage.data.sources.layout import BYTES_PER_CHUNK, PHOTO_SUFFIXES, PHOTOS_PER_CHUNK, too_large
from plumage.data.sources.names import merge_spellings
from plumage.data.sources.photo import HEAD_BYTES, Chunk, Photo, suffix_by_content
from plumage.data.sources.retry import one_line
from plumage.errors import DataError

ROWS_PER_BATCH = 4
MAX_LABEL_BYTES = 255
"""What a class folder's name may have."""
LABEL_NAMES = ("label", "labels", "class", "species", "category", "target")


class Columns(NamedTuple):
    """The names of the image and label columns; `classes` are the names of integer labels."""

    image: str
    label: str
    classes: list[str] | None


class ParquetSource:
    """The photos in the parquet `files`, each given with its split, in the order of their rows.

    A key is the split, the label and the row's number in its split. Rows without a label are counted and passed over.

    Raises:
        DataError: a file is incomplete, grows like a bomb when it is read, has no image or label column, or a class name
            that is too long.
    """

    def __init__(
        self, files: list[tuple[Path, str | None]], where: str = "data.path", max_bytes: int = MAX_BYTES
    ) -> None:
        self.where, self._max_bytes = where, max_bytes
        self._files = [(path, split, _columns(path, where)) for path, split in files]
        labels = [_labels(path, columns, where) for path, _, columns in self._files]
        counts = Counter(label for column in labels for label in column if label is not None)
        for label in counts:
            if (size := len(label.encode("utf-8", "surrogatepass"))) > MAX_LABEL_BYTES:
                raise DataError(
                    f"{where}: a class name has {size:,} bytes ({label[:30]}...); takes at most {MAX_LABEL_BYTES}"
                )
        names, merged = merge_spellings(counts)
        self._labels = [[label if label is None else names[label] for label in column] for column in labels]
        self._length = counts.total()
        self.about: dict[str, Any] = {"passed_over": {}, "merged_classes": merged}
        if unlabelled := sum(map(len, labels)) - self._length:
            self.about["unlabelled"] = unlabelled

    def __len__(self) -> int:
        return self._length

    def chunks(self) -> Iterator[Chunk]:
        """Chunks that hold the photos' bytes: a row group can only be read from its start, so each is read here, once."""
        numbers: Counter[str | None] = Counter()
        for (path, split, columns), labels in zip(self._files, self._labels, strict=True):
            start = unpacked = 0
            for images in _read_images(path, columns.image, self.where, self._max_bytes):
                unpacked += sum(image.size for image in images)
                _check_size(path, unpacked, self.where)
                end = start + len(images)
                yield partial(_photos, images, labels[start:end], split, numbers[split])
                numbers[split] += len(images)
                start = end


def columns_of(path: Path, where: str) -> Columns | None:
    """Find the image and label columns of a parquet file by its Hugging Face metadata, else by their types.

    Return None when it has no such columns. DataError when the file is incomplete.
    """
    import pyarrow.parquet as pq

    with _reading(path, where):
        schema = pq.read_schema(path, memory_map=True)
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})
    kinds = {name: _kind(features[name]) for name in features if name in schema.names}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    images += [field.name for field in schema if _holds_bytes(field.type)]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    labels += [name for name in LABEL_NAMES if name in schema.names and _holds_labels(schema.field(name).type)]
    if not images or not labels:
        return None
    return Columns(images[0], labels[0], features.get(labels[0], {}).get("names"))


def _columns(path: Path, where: str) -> Columns:
    columns = columns_of(path, where)
    if columns is None:
        raise DataError(f"{where}: {path.name} has no image column or no label column ({', '.join(LABEL_NAMES)})")
    return columns


def _kind(feature: Any) -> str | None:
    return feature.get("_type") if isinstance(feature, dict) else None


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind.fields)
    return types.is_binary(kind) or types.is_large_binary(kind)


def _holds_labels(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _holds_labels(kind.value_type)
    return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)


def _labels(path: Path, columns: Columns, where: str) -> list[str | None]:
    """The label of each row. Null, -1 and an empty name mean no label: None."""
    import pyarrow.parquet as pq

    with _reading(path, where):
        metadata = pq.read_metadata(path)
        groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
        _check_size(path, sum(group.total_byte_size for group in groups), where)
        read = pq.read_table(path, columns=[columns.label], read_dictionary=[columns.label]).column(0)
        labels = [label for chunk in read.chunks for label in _values(chunk)]
    classes = columns.classes
    if classes is None:
        return [None if label in (None, -1) or not str(label).strip() else str(label) for label in labels]
    return [classes[label] if label is not None and 0 <= label < len(classes) else None for label in labels]


class Image(NamedTuple):
    """A cell of the image column."""

    data: bytes
    name: str | None
    size: int
    problem: str  # why it has no `data`


def _read_images(path: Path, column: str, where: str, max_bytes: int) -> Iterator[list[Image]]:
    """Yield the images of all rows, at most PHOTOS_PER_CHUNK and BYTES_PER_CHUNK at a time; a larger one by itself.

    Arrow copies a value for each row that shares it, so it gets a few rows at a time: as fast, measured, as many.
    """
    import pyarrow.parquet as pq

    run: list[Image] = []
    size = 0
    with _reading(path, where), pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=[column]):
            for image in _images(batch.column(0), max_bytes):
                if run and (len(run) == PHOTOS_PER_CHUNK or size + image.size > BYTES_PER_CHUNK):
                    yield run
                    run, size = [], 0
                run.append(image)
                size += image.size
    if run:
        yield run


def _check_size(path: Path, unpacked: int, where: str) -> None:
    packed = path.stat().st_size
    if unpacked > max(BOMB_BYTES, MAX_RATIO * packed):
        raise DataError(
            f"{where}: {path} unpacks to over {MAX_RATIO} times its size ({unpacked:,} bytes from {packed:,}), like a bomb; "
            "takes parquet files of photos"
        )


def _values(column: Any) -> list[Any]:
    """The values of a column; rows that share an entry of its dictionary share one object."""
    from pyarrow import types

    if not types.is_dictionary(column.type):
        values: list[Any] = column.to_pylist()
        return values
    entries = [*column.dictionary.to_pylist(), None]
    return [entries[index] for index in column.indices.fill_null(len(entries) - 1).to_pylist()]


def _images(column: Any, max_bytes: int) -> list[Image]:
    """The images of consecutive rows; one of more than `max_bytes` is not copied."""
    from pyarrow import compute, types

    is_struct = types.is_struct(column.type)
    data = column.field("bytes") if is_struct else column
    has_names = is_struct and any(field.name == "path" for field in column.type.fields)
    names = column.field("path").to_pylist() if has_names else [None] * len(column)
    sizes = [size or 0 for size in compute.binary_length(data).to_pylist()]
    problems = [too_large(size, max_bytes) for size in sizes]
    return [
        Image(b"" if problem else cell.as_py() or b"", name, size, problem)
        for cell, name, size, problem in zip(data, names, sizes, problems, strict=True)
    ]


def _photos(images: list[Image], labels: list[str | None], split: str | None, number: int) -> list[Photo]:
    """The photos of consecutive rows, numbered from `number`."""
    photos = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True), number):
        if label is not None:
            key = f"{label}/{i:06d}{_suffix(image.name, image.data)}"
            photos.append(Photo(f"{split}/{key}" if split else key, label, split, image.data, image.problem))
    return photos


def _suffix(name: str | None, data: bytes) -> str:
    suffix = PurePosixPath(name or "").suffix.lower()
    return suffix if suffix in PHOTO_SUFFIXES else suffix_by_content(data[:HEAD_BYTES])


@contextmanager
def _reading(path: Path, where: str) -> Iterator[None]:
    """Raise a DataError for a file that can't be read."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        problem = f"is not a complete parquet file ({one_line(error)}); remove it and run again"
        raise DataError(f"{where}: {path} {problem}") from None
