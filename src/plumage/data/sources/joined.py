"""Several archives of one data set as one source."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.layout import merge_spellings
from plumage.data.sources.photo import Chunk, Photo


class Piece(NamedTuple):
    """An archive. Its photos' keys get `prefix`; photos without a split inside the archive get `split`."""

    prefix: str
    split: str | None
    source: ArchiveSource


class JoinedSource:
    """The photos of all `pieces`, one after the other. Class names that differ only in case or spaces are one class."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        labels = Counter(found.label for piece in pieces for found in piece.source.found)
        self._label_of = merge_spellings(labels)[0]
        passed_over: Counter[str] = Counter()
        spellings: dict[str, set[str]] = {}
        for piece in pieces:
            passed_over.update(piece.source.about["passed_over"])
            merged = piece.source.about["merged_classes"]
            for label in {found.label for found in piece.source.found}:
                spellings.setdefault(self._label_of[label], set()).update(merged.get(label, [label]))
        self.about = {
            "passed_over": dict(sorted(passed_over.items())),
            "merged_classes": {label: sorted(names) for label, names in sorted(spellings.items()) if len(names) > 1},
        }

    def __len__(self) -> int:
        return sum(len(piece.source) for piece in self._pieces)

    def chunks(self) -> Iterator[Chunk]:
        """The chunks of each archive in turn, with the photos' original bytes."""
        for prefix, split, source in self._pieces:
            for chunk in source.chunks():
                yield partial(_read, chunk, prefix, split, self._label_of)


def _read(chunk: Chunk, prefix: str, split: str | None, label_of: dict[str, str]) -> list[Photo]:
    return [Photo(prefix + photo.key, label_of[photo.label], photo.split or split, photo.data) for photo in chunk()]
