"""Altered copies of photos (resaved, resized, cropped, brighter or darker) for testing and measuring near-duplicates."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from plumage.data.dataset.ingest import check_photos
from plumage.data.dataset.store import read_batch
from plumage.data.sources.photo import Photo


def resaved(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def thumbnails(photos: list[bytes]) -> NDArray[np.uint8]:
    rows, *_ = check_photos(lambda: [Photo(f"{n}.jpg", "a", None, data) for n, data in enumerate(photos)], 1)
    return np.frombuffer(b"".join(read_batch(rows).column("thumbnail").to_pylist()), np.uint8).reshape(len(photos), -1)


def cropped(image: Image.Image, most: float, rng: np.random.Generator) -> Image.Image:
    left, top, right, bottom = rng.uniform(0, most, 4)
    width, height = image.size
    return image.crop((int(left * width), int(top * height), int(width * (1 - right)), int(height * (1 - bottom))))


def resized(image: Image.Image, scale: float) -> Image.Image:
    return image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)


CHANGES: dict[str, tuple[Callable[[Image.Image, np.random.Generator], bytes], float]] = {
    "recompressed": (lambda image, rng: resaved(image, 40), 0.99),
    "half the size": (lambda image, rng: resaved(resized(image, 0.5)), 0.99),
    "larger": (lambda image, rng: resaved(resized(image, 1.6)), 0.99),
    "brighter": (lambda image, rng: resaved(ImageEnhance.Brightness(image).enhance(1.2)), 0.97),
    "darker": (lambda image, rng: resaved(ImageEnhance.Brightness(image).enhance(0.8)), 0.99),
    "cropped by up to 3% per side": (lambda image, rng: resaved(cropped(image, 0.03, rng)), 0.95),
    "all at once": (
        lambda image, rng: resaved(resized(ImageEnhance.Brightness(cropped(image, 0.04, rng)).enhance(0.9), 0.75), 70),
        0.92,
    ),
}
