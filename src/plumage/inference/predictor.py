"""Predict photos with a trained model: files, bytes or images in, class probabilities out."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import overload

import numpy as np
from numpy.typing import NDArray

from plumage.accelerate.engine import Engine
from plumage.common.cores import threads
from plumage.config import MAX_PIXELS
from plumage.data.dataset.decode import named
from plumage.data.loading.transforms import normalised
from plumage.errors import ModelError
from plumage.inference.photos import Photo, PhotoReader, read_file
from plumage.inference.probabilities import probabilities
from plumage.models.model_files import NOT_FINITE, ModelFiles

BATCH_SIZE = 32
Ranked = list[tuple[str, float]]
"""Classes and their probabilities, the most probable first."""
Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From N photos, N x size x size x 3, to N x C logits."""


class Predictor:
    """A model with its preprocessing. `classes` names the columns of the probabilities; `reader` says what photos it takes.

    `network` computes the logits of photos as `reader` reads them; without it, ONNX Runtime does, on the CPU.
    """

    def __init__(self, model: ModelFiles, max_pixels: int = MAX_PIXELS, network: Network | None = None) -> None:
        self.classes = model.description.classes
        self.reader = PhotoReader(model.description.preprocessing, max_pixels)
        self._decoding = Lock()
        self._temperature = model.description.temperature
        self._logits = network or _on_cpu(model)

    @overload
    def predict(self, photos: Photo, top_k: int = 5) -> Ranked: ...  # type: ignore[overload-overlap]  # text has texts
    @overload
    def predict(self, photos: Iterable[Photo], top_k: int = 5) -> list[Ranked]: ...
    def predict(self, photos: Photo | Iterable[Photo], top_k: int = 5) -> Ranked | list[Ranked]:
        """The `top_k` most probable classes of each photo and their probabilities, most probable first.

        One photo that isn't in a list gives its own answer, not a list of one.

        Raises:
            PhotoError: a photo can't be read; the message names it.
            ModelError: the model's logits are not finite.
        """
        if isinstance(photos, Photo):
            (answer,) = self.rank(self.probabilities([photos]), top_k)
            return answer
        return self.rank(self.probabilities(photos), top_k)

    def probabilities(self, photos: Iterable[Photo]) -> NDArray[np.float32]:
        """N x C probabilities of N photos; each row sums to 1. Raises errors as `predict` does."""
        rows = [np.empty((0, len(self.classes)), dtype=np.float32)]
        numbered = enumerate(photos)
        while batch := list(islice(numbered, BATCH_SIZE)):
            rows.append(self.classify(np.stack([self._view(photo, index) for index, photo in batch])))
        return np.concatenate(rows)

    def classify(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """N x C probabilities of N photos as `reader` reads them, N x size x size x 3. ModelError if logits are not finite."""
        logits = self._logits(views)
        if not np.isfinite(logits).all():
            raise ModelError(NOT_FINITE)
        return probabilities(logits, self._temperature)

    def rank(self, probabilities: NDArray[np.float32], top_k: int) -> list[Ranked]:
        """The `top_k` most probable classes in each row of N x C probabilities."""
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return [[(self.classes[i], float(row[i])) for i in best] for row, best in zip(probabilities, top, strict=True)]

    def _view(self, photo: Photo, index: int) -> NDArray[np.uint8]:
        """Read a photo. Messages name it by its path, or by `index` if it has none.

        One photo at a time is decoded, however many threads predict: decoding is what takes memory.
        """
        with named(str(photo) if isinstance(photo, str | Path) else f"photo {index}"):
            data = read_file(photo) if isinstance(photo, str | Path) else photo
            with self._decoding:
                return self.reader.read(data)


def _on_cpu(model: ModelFiles) -> Network:
    count = threads()
    engine = Engine(model.description.architecture, model.weights, count)
    return lambda views: engine.logits(normalised(views, model.description.preprocessing, count))
