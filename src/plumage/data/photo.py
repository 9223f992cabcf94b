"""A labelled photo, as every source yields it and the data set keeps it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Photo:
    """One labelled photo, as found. `key` is unique in its source: the path inside it, with forward slashes."""

    key: str
    label: str
    part: str | None
    """The part that the data set itself puts it in: train, val, test, or None."""
    data: bytes
