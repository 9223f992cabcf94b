"""Several archives of one data set as one source."""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.layout import merge_spellings
from plumage.data.sources.photo import Load, Photo


class Piece(NamedTuple):
    """An archive; its photos' keys begin with `prefix`, and are of `part` when it doesn't put them in any part itself."""

    prefix: str
    part: str | None
    source: ArchiveSource


class JoinedSource:
    """The photos of all `pieces`, one after the other. Class names that differ only in case or spaces are one class."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        labels = Counter(found.label for piece in pieces for found in piece.source._found)
        self._label_of = merge_spellings(labels)[0]
        passed_over: Counter[str] = Counter()
        spellings: dict[str, set[str]] = {}
        for piece in pieces:
            passed_over.update(piece.source.about["passed_over"])
            merged = piece.source.about["merged_classes"]
            for label in {found.label for found in piece.source._found}:
                spellings.setdefault(self._label_of[label], set()).update(merged.get(label, [label]))
        self.about = {
            "passed_over": dict(sorted(passed_over.items())),
            "merged_classes": {label: sorted(names) for label, names in sorted(spellings.items()) if len(names) > 1},
        }

    def __len__(self) -> int:
        return sum(len(piece.source) for piece in self._pieces)

    def chunks(self) -> Iterator[Load]:
        """Photos with their bytes as they lie there."""
        for prefix, part, source in self._pieces:
            for load in source.chunks():
                yield partial(_read, load, prefix, part, self._label_of)


def _read(load: Load, prefix: str, part: str | None, label_of: dict[str, str]) -> list[Photo]:
    return [Photo(prefix + photo.key, label_of[photo.label], photo.part or part, photo.data) for photo in load()]
