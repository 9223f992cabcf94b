"""Predict photos with a trained model: files, bytes or images in, class probabilities out."""

import math
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from plumage.accelerate.inference import compile_for_inference, probabilities
from plumage.config import MAX_BYTES, MAX_PIXELS
from plumage.data.dataset.decode import named, pixels, to_rgb
from plumage.data.loading.transforms import eval_view, to_model_input
from plumage.errors import ModelError, PhotoError
from plumage.models.saved_model import NOT_FINITE, SavedModel

Photo = str | Path | bytes | Image.Image
BATCH_SIZE = 32


class Predictor:
    """A model with its preprocessing. `classes` names the columns of the probabilities.

    A large JPEG is decoded at a half, quarter or eighth of its size, twice that of the model's input or more. A photo of more
    than `max_pixels` pixels is refused; a JPEG counts as reduced, unless it is progressive. So is a file over config.MAX_BYTES.
    """

    def __init__(self, saved: SavedModel, device: str = "cpu", max_pixels: int = MAX_PIXELS) -> None:
        self.classes = saved.classes
        self._max_pixels = max_pixels
        self._side = math.ceil(2 * saved.preprocessing.size / saved.preprocessing.crop_fraction)
        self._decoding = Lock()
        self._preprocessing = saved.preprocessing
        self._temperature = saved.temperature
        self._device = torch.device(device)
        model = saved.model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._logits = compile_for_inference(model.eval())

    def predict(self, photos: Sequence[Photo], top_k: int = 5) -> list[list[tuple[str, float]]]:
        """The `top_k` most probable classes of each photo and their probabilities, most probable first.

        Raises:
            PhotoError: a photo can't be read; the message names it.
            ModelError: the model's logits are not finite.
        """
        probabilities = self.probabilities(photos)
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        return [[(self.classes[i], float(row[i])) for i in best] for row, best in zip(probabilities, top, strict=True)]

    def probabilities(self, photos: Sequence[Photo]) -> NDArray[np.float32]:
        """N x C probabilities of N photos; each row sums to 1. Raises errors as `predict` does."""
        rows = [np.empty((0, len(self.classes)), dtype=np.float32)]
        with torch.inference_mode():
            for start in range(0, len(photos), BATCH_SIZE):
                batch = enumerate(photos[start : start + BATCH_SIZE], start)
                views = np.stack([self._view(photo, index) for index, photo in batch])
                logits = self._logits(to_model_input(torch.from_numpy(views), self._preprocessing, self._device))
                if not torch.isfinite(logits).all():
                    raise ModelError(NOT_FINITE)
                rows.append(probabilities(logits.cpu(), self._temperature).numpy())
        return np.concatenate(rows)

    def _view(self, photo: Photo, index: int) -> NDArray[np.uint8]:
        """Decode a photo and crop it: size x size x 3. Messages name it by its path, or by `index` if it has none.

        One photo at a time is decoded, however many threads predict: decoding is what takes memory.
        """
        with named(str(photo) if isinstance(photo, str | Path) else f"photo {index}"):
            data = _read_file(photo) if isinstance(photo, str | Path) else photo
            with self._decoding:
                return eval_view(self._decode(data), self._preprocessing)

    def _decode(self, photo: bytes | Image.Image) -> NDArray[np.uint8]:
        """Decode to RGB, H x W x 3."""
        if isinstance(photo, Image.Image):
            return np.asarray(to_rgb(photo))
        return pixels(photo, max_pixels=self._max_pixels, side=self._side)


def _read_file(path: str | Path) -> bytes:
    """Read a photo's file, or a pipe. PhotoError if it can't be read or has more than MAX_BYTES."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise PhotoError(getattr(error, "strerror", None) or str(error)) from None
    if len(data) > MAX_BYTES:
        raise PhotoError(f"too large (takes at most {MAX_BYTES:,} bytes)")
    return data
