"""Photos in a folder: class folders, or parts over class folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from plumage.data.photo import Photo
from plumage.data.sources.layout import EXPECTED, recognise
from plumage.errors import DataError


class FolderSource:
    """The photos below `root`, sorted by key. DataError when it is no folder or holds no photos."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(f"data.path: {root} is no folder; takes a folder with photos ({EXPECTED})")
        self.root = root
        names = [
            (Path(parent) / name).relative_to(root).as_posix()
            for parent, _, files in os.walk(root, followlinks=True)
            for name in files
        ]
        self._found, self.passed_over = recognise(names, f"data.path: {root}")

    def __len__(self) -> int:
        return len(self._found)

    def photos(self) -> Iterator[Photo]:
        """Each photo with its bytes as they lie there."""
        for found in self._found:
            yield Photo(found.key, found.label, found.part, (self.root / found.name).read_bytes())
