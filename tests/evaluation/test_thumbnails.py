"""Thumbnails are small WebP pictures of the square that the model sees."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from support import make_dataset, make_photo

from plumage.data.sources.photo import Photo
from plumage.evaluation.thumbnails import SIZE, load_thumbnails
from plumage.models.preprocessing import Preprocessing


def test_each_row_has_its_own_small_picture(tmp_path: Path) -> None:
    colours = [(200, 40, 50), (60, 90, 200), (50, 170, 70)]
    photos = [
        Photo(f"{i}.jpg", "bird", None, make_photo(colour, i, size=(300, 200))) for i, colour in enumerate(colours)
    ]
    dataset = make_dataset(tmp_path / "dataset", photos)
    pictures = load_thumbnails(dataset, [2, 0], Preprocessing(size=224, crop_fraction=1.0))
    for picture, colour in zip(pictures, (colours[2], colours[0]), strict=True):
        image = Image.open(io.BytesIO(picture))
        assert (image.format, image.size) == ("WEBP", (SIZE, SIZE)) and len(picture) < 3000
        assert np.abs(np.asarray(image).reshape(-1, 3).mean(axis=0) - colour).max() < 12
    assert load_thumbnails(dataset, [], Preprocessing(size=224, crop_fraction=1.0)) == []
