"""From a photo as people have it, a path, a file's bytes or a PIL image, to the square that a model sees."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from plumage.config import MAX_BYTES, MAX_PIXELS
from plumage.data.dataset.decode import pixels, to_rgb
from plumage.data.loading.transforms import eval_view
from plumage.errors import PhotoError
from plumage.models.preprocessing import Preprocessing

Photo = str | Path | bytes | Image.Image


@dataclass(frozen=True)
class PhotoReader:
    """Decodes and crops photos for a model. Any process can use it.

    A large JPEG is decoded at a half, quarter or eighth of its size, twice that of the model's input or more. A photo of more
    than `max_pixels` pixels is refused; a JPEG counts as reduced, unless it is progressive. So is a file over config.MAX_BYTES.
    """

    preprocessing: Preprocessing
    max_pixels: int = MAX_PIXELS

    def read(self, photo: Photo) -> NDArray[np.uint8]:
        """The photo's central crop, size x size x 3. PhotoError with the reason, without the photo's name, if it can't be read."""
        return eval_view(self._decode(photo), self.preprocessing)

    def _decode(self, photo: Photo) -> NDArray[np.uint8]:
        """The whole photo as RGB, H x W x 3."""
        data = _file_of(photo) if isinstance(photo, Image.Image) else photo
        if isinstance(data, str | Path):
            data = read_file(data)
        if data is None:
            assert isinstance(photo, Image.Image)
            return np.asarray(to_rgb(photo))
        if not isinstance(data, bytes):
            raise PhotoError(f"is {type(photo).__name__}; takes a path, the bytes of a photo file, or a PIL image")
        side = math.ceil(2 * self.preprocessing.size / self.preprocessing.crop_fraction)
        return pixels(data, max_pixels=self.max_pixels, side=side)


def read_file(path: str | Path) -> bytes:
    """Read a photo's file, or a pipe. PhotoError if it can't be read or has more than MAX_BYTES."""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise PhotoError(getattr(error, "strerror", None) or str(error)) from None
    if len(data) > MAX_BYTES:
        raise PhotoError(f"too large (takes at most {MAX_BYTES:,} bytes)")
    return data


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file. Opening a named pipe otherwise waits until something opens it for writing; so it is empty."""
    file = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(file, True)
    return file


def _file_of(image: Image.Image) -> bytes | None:
    """The file that a JPEG was opened from, unless it has been loaded, and may have been changed, since.

    From the file it is decoded as a path is, reduced.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.tile or image.tell():
        return None
    file = image.fp
    if file is None or file.closed:
        return None
    place = file.tell()
    file.seek(0)
    data = file.read(MAX_BYTES + 1)
    file.seek(place)
    return data
