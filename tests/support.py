"""Photos that tests make for themselves."""

import io

import numpy as np
from PIL import Image


def make_photo(color: tuple[int, int, int], seed: int, size: tuple[int, int] = (40, 32), format: str = "JPEG") -> bytes:
    """A noisy plane of one colour, as a photo file."""
    noise = np.random.default_rng(seed).normal(0, 12, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)).save(buffer, format)
    return buffer.getvalue()
