"""The first photos with a suspicious label have their own picture; the others are only counted."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from support import make_dataset, make_photo

from plumage.data.sources.photo import Photo
from plumage.evaluation.label_error_photos import with_pictures
from plumage.evaluation.report_data import MAX_LABEL_ERRORS
from plumage.models.preprocessing import Preprocessing


def test_each_of_the_first_has_its_picture(tmp_path: Path) -> None:
    count = MAX_LABEL_ERRORS + 2
    photos = [Photo(f"{i:02d}.jpg", "bird", None, make_photo((4 * i, 40, 50), i, size=(64, 64))) for i in range(count)]
    dataset = make_dataset(tmp_path / "dataset", photos)
    found = [(f"{i:02d}.jpg", "bird", "owl", 1 - i / 100) for i in reversed(range(count))]
    errors = with_pictures(found, dataset, Preprocessing(size=64, crop_fraction=1.0))
    assert [each[:4] for each in errors] == found
    for row, each in zip(reversed(range(count)), errors[:MAX_LABEL_ERRORS], strict=False):
        red = np.asarray(Image.open(io.BytesIO(each.picture)))[..., 0].mean()
        assert abs(red - 4 * row) < 10
    assert [each.picture for each in errors[MAX_LABEL_ERRORS:]] == [b"", b""]
    assert with_pictures([], dataset, Preprocessing(size=64, crop_fraction=1.0)) == []
