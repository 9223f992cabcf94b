"""Small pictures of test photos, for the report's map and the cells of its confusion matrix."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import batched, central_view, load_batches
from plumage.models.preprocessing import Preprocessing

SIZE = 72
"""Side in pixels. A picture takes about 1 kB."""
QUALITY = 55
BATCH = 64


def load_thumbnails(
    dataset: Dataset, rows: Sequence[int], preprocessing: Preprocessing, size: int = SIZE
) -> list[bytes]:
    """The square that the model sees of each photo, `size` pixels wide, as WebP.

    Raises:
        PhotoError: a photo can't be decoded.
    """
    small = preprocessing.model_copy(update={"size": size})
    batches = load_batches(dataset, batched(rows, BATCH), central_view(small), size)
    return [_webp(square) for batch in batches for square in batch.numpy()]


def _webp(square: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(square).save(buffer, "WEBP", quality=QUALITY, method=3)
    return buffer.getvalue()
