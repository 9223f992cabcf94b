"""Where photos come from: one file a source."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plumage.config import DEFAULT_DATASETS, Data
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.huggingface import huggingface_source
from plumage.data.sources.kaggle import kaggle_source
from plumage.data.sources.photo import Source
from plumage.data.sources.sample import SampleSource
from plumage.data.sources.url import fetch
from plumage.errors import DataError


@contextmanager
def open_source(data: Data, path: Path, downloads: Path, scratch: Path) -> Iterator[Source]:
    """The source that `data` names. DataError when it can't be used.

    `path` is where its `data.path` lies, `downloads` the folder for what is fetched and kept, `scratch` a file to unpack a
    compressed tar to, which is gone afterwards.
    """
    try:
        yield _source(data, path, downloads, scratch)
    finally:
        for file in scratch.parent.glob(f"{scratch.name}*"):
            file.unlink()


def _source(data: Data, path: Path, downloads: Path, scratch: Path) -> Source:
    if data.source == "sample":
        return SampleSource(data.species, data.images_per_species, data.image_size, data.seed)
    if data.source == "folder":
        return FolderSource(path)
    if data.source == "archive":
        return ArchiveSource(path, scratch)
    if data.source == "url":
        assert data.url is not None
        archive = fetch(data.url, downloads, data.sha256)
        try:
            return ArchiveSource(archive, scratch, where="data.url")
        except DataError:
            archive.unlink()  # once it is mended there, the next run fetches it anew
            raise
    dataset = data.dataset or DEFAULT_DATASETS[data.source]
    if data.source == "kaggle":
        return kaggle_source(dataset)
    return huggingface_source(dataset, data.revision, scratch)
