"""Predict any number of photos in constant memory: processes decode ahead of the network."""

from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plumage.common.workers import begin, map_in_processes
from plumage.errors import PhotoError
from plumage.inference.find_photos import Found
from plumage.inference.photos import PhotoReader
from plumage.inference.predictor import BATCH_SIZE, Predictor, Ranked

FEW = 64
"""Up to this many photos are decoded in this process: starting others takes seconds."""
View = NDArray[np.uint8] | str


class Answer(NamedTuple):
    """What a model says of a photo, or why the photo can't be read."""

    path: str
    ranked: Ranked
    problem: str = ""


def predict_stream(predictor: Predictor, photos: Iterable[Found], top_k: int) -> Generator[list[Answer]]:
    """Yield the answers for `photos`, in order, in lists of a few dozen.

    A photo that can't be read, crashes its decoder or takes over five minutes gets an answer that says so. (Of up to FEW
    photos, a crash ends this process.) On a CPU a photo's probabilities don't depend on the others.

    Raises:
        ModelError: the model's logits are not finite.
        DataError: memory runs out.
    """
    photos = iter(photos)
    first = list(islice(photos, FEW + 1))
    read = partial(_read_views, reader=predictor.reader)
    chunks = _chunks(chain(first, photos), BATCH_SIZE)
    for chunk, views in map_in_processes(read, chunks, 0 if len(first) <= FEW else None):
        readable = [view for view in views if not isinstance(view, str)]
        ranked = iter(predictor.rank(predictor.classify(np.stack(readable)), top_k) if readable else ())
        yield [
            Answer(photo.path, [], view) if isinstance(view, str) else Answer(photo.path, next(ranked))
            for photo, view in zip(chunk, views, strict=True)
        ]


def _chunks(photos: Iterator[Found], size: int) -> Iterator[list[Found]]:
    while chunk := list(islice(photos, size)):
        yield chunk


def _read_views(
    chunk: list[Found], reader: PhotoReader, faults: Mapping[int, str] = MappingProxyType({})
) -> tuple[list[Found], list[View]]:
    """Read each photo of a chunk; a text instead says why it can't be read. `faults` is that of `map_in_processes`."""
    views: list[View] = []
    for number, photo in enumerate(chunk):
        try:
            if photo.problem or number in faults:
                raise PhotoError(photo.problem or f"its decoder {faults[number]}")
            begin(number)
            views.append(reader.read(Path(photo.path) if photo.data is None else photo.data))
        except PhotoError as error:
            views.append(str(error))
    return [photo._replace(data=None) for photo in chunk], views
