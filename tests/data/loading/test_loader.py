"""Batches are in order, however many threads decode them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import make_dataset, make_photo

from plumage.data.dataset.decode import decode
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import batched, load_batches, typical_side
from plumage.data.sources.photo import Photo
from plumage.errors import PhotoError


def test_batches_have_the_requested_rows_in_order(color_dataset: Callable[[int], Dataset]) -> None:
    dataset = color_dataset(10)
    rows = np.random.default_rng(0).permutation(len(dataset)).tolist()
    batches = batched(rows, 7)
    loaded = list(load_batches(dataset, batches, lambda photo, row, out: np.copyto(out, photo[:, :32]), 32))
    assert [len(batch) for batch in loaded] == [7, 7, 7, 7, 7, 5]
    flat = [photo.numpy() for batch in loaded for photo in batch]
    assert all(np.array_equal(flat[i], np.asarray(decode(dataset.photo(row)))[:, :32]) for i, row in enumerate(rows))


def test_an_error_in_a_thread_reaches_the_caller_with_the_photo_s_name(color_dataset: Callable[[int], Dataset]) -> None:
    def transform(photo: object, row: int, out: object) -> None:
        raise PhotoError("torn")

    dataset = color_dataset(3)
    with pytest.raises(PhotoError, match=f"^{dataset.keys[0]}: torn$"):
        list(load_batches(dataset, [[0], [1]], transform, 8))


def test_the_typical_side_is_the_photos_median_short_side(tmp_path: Path) -> None:
    sizes = [(90, 20), (40, 300), (50, 60), (44, 70), (200, 210)]
    photos = [Photo(f"{n}.jpg", "a", None, make_photo((9, 9, 9), n, size)) for n, size in enumerate(sizes)]
    assert typical_side(make_dataset(tmp_path / "sizes", photos)) == 44
