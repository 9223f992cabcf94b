"""Where photos come from: one file a source, each with `len()` and `photos()`."""

from pathlib import Path

from plumage.config import Data
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.sample import SampleSource

Source = SampleSource | FolderSource | ArchiveSource


def open_source(data: Data, path: Path) -> Source:
    """The source that `data` names; `path` is where its `data.path` lies. DataError when it can't be used."""
    if data.source == "sample":
        return SampleSource(data.species, data.images_per_species, data.image_size, data.seed)
    return FolderSource(path) if data.source == "folder" else ArchiveSource(path)
