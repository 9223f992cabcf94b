"""Example photos show what the model sees, each with its own heat map."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support import make_dataset

from plumage.data.loading.model_input import to_model_input
from plumage.data.loading.transforms import eval_view
from plumage.data.sources.photo import Photo
from plumage.evaluation.example_photos import THUMBNAIL_SIZE, grad_cam, load_example_photos
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing

COLOURS = ["red", "lime", "blue", "yellow", "magenta"]


def striped(colour: str, side: int) -> bytes:
    """A photo twice as wide as high, grey except for its central square."""
    photo = Image.new("RGB", (2 * side, side), "grey")
    photo.paste(colour, (side // 2, 0, side // 2 + side, side))
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_each_photo_is_the_square_that_the_model_sees_with_its_own_heat_map(tmp_path: Path) -> None:
    photos = [Photo(f"{name}.jpg", "bird", None, striped(name, 100 + 20 * i)) for i, name in enumerate(COLOURS)]
    dataset = make_dataset(tmp_path / "dataset", photos)
    torch.manual_seed(0)
    model, preprocessing = create_model("efficientnet_lite0", 3), Preprocessing(size=128, crop_fraction=1.0)
    rows, classes = [4, 0, 2, 1, 3], [2, 0, 1, 1, 0]
    shown = load_example_photos(model, dataset, rows, classes, preprocessing, "cpu", batch_size=2)
    for row, label, photo in zip(rows, classes, shown, strict=True):
        assert photo.image().size == (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
        colour = Image.new("RGB", (1, 1), Path(dataset.keys[row]).stem).getpixel((0, 0))
        seen = np.asarray(photo.image()).reshape(-1, 3).mean(axis=0)
        assert np.abs(seen - colour).max() < 12, "no grey: only what the model sees is shown"
        view = eval_view(np.asarray(Image.open(io.BytesIO(dataset.photo(row)))), preprocessing)
        alone = grad_cam(
            model, to_model_input(torch.from_numpy(view)[None], preprocessing, "cpu"), torch.tensor([label])
        )
        np.testing.assert_allclose(photo.heat, alone[0].numpy(), atol=1e-4)
    again = load_example_photos(model, dataset, rows, classes, preprocessing, "cpu", batch_size=2, large={2})
    assert [photo.jpeg for photo in again[:2] + again[3:]] == [photo.jpeg for photo in shown[:2] + shown[3:]]
    assert again[2].image().size == (128, 128), "row 2 is to be looked at: as large as the model sees it"


def test_a_model_with_small_inputs_has_small_thumbnails_and_no_rows_give_no_photos(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", [Photo("a.jpg", "bird", None, striped("red", 100))])
    model, preprocessing = create_model("efficientnet_lite0", 2), Preprocessing(size=32, crop_fraction=1.0)
    (photo,) = load_example_photos(model, dataset, [0], [1], preprocessing, "cpu")
    assert photo.image().size == (32, 32) and photo.heat.shape == (1, 1)
    assert load_example_photos(model, dataset, [], [], preprocessing, "cpu") == []
