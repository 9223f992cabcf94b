"""A labelled photo, and what every source of photos offers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Photo:
    """One labelled photo, as found. `key` is unique in its source: the path inside it, with forward slashes."""

    key: str
    label: str
    part: str | None
    """The part that the data set itself puts it in: train, val, test, or None."""
    data: bytes


Load = Callable[[], list[Photo]]
"""Reads (or draws) a few photos. It is picklable, so that any process can run it."""


class Source(Protocol):
    """Photos from somewhere. `about` is what the report says of it: JSON, the same for the same photos."""

    about: dict[str, Any]

    def __len__(self) -> int:
        """How many photos there are."""

    def chunks(self) -> Iterator[Load]:
        """The work of reading them all, a few photos and megabytes at a time, in the order of the data set."""
