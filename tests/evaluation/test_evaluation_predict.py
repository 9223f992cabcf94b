"""Probabilities of many photos: in order, the same whatever the batch size, and never of a broken model."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from support import make_dataset
from torch import nn

from plumage.data.decode import pixels
from plumage.data.photo import Photo
from plumage.data.transforms import Preprocessing, eval_view, to_model_input
from plumage.errors import ModelError
from plumage.evaluation.predict import predict

PREPROCESSING = Preprocessing(size=32, crop_fraction=0.9)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """23 photos of four classes, of odd sizes."""
    rng = np.random.default_rng(0)

    def photo(number: int) -> Photo:
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (40 + number, 70 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        return Photo(key=f"{number:02}.png", label="abcd"[number % 4], part=None, data=file.getvalue())

    return make_dataset(tmp_path_factory.mktemp("photos") / "dataset", [photo(number) for number in range(23)])


@pytest.fixture
def model():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(8, 4))


def test_each_row_is_the_photo_of_its_index_one_at_a_time(model, dataset):
    indices = [20, 3, 11, 3, 0]
    probabilities = predict(model, dataset, indices, PREPROCESSING, "cpu", batch_size=2)
    assert probabilities.shape == (5, 4)
    assert probabilities.dtype == np.float32
    model.eval()
    for row, index in zip(probabilities, indices, strict=True):
        view = torch.from_numpy(eval_view(pixels(dataset.photo(index)), PREPROCESSING).copy())[None]
        with torch.no_grad():
            expected = model(to_model_input(view, PREPROCESSING, "cpu")).softmax(dim=1)[0]
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 64])
def test_the_batch_size_changes_no_probability_and_a_second_call_no_bit(model, dataset, batch_size):
    indices = range(len(dataset))
    probabilities = predict(model, dataset, indices, PREPROCESSING, "cpu", batch_size)
    np.testing.assert_allclose(probabilities, predict(model, dataset, indices, PREPROCESSING, "cpu", 4), atol=1e-6)
    np.testing.assert_array_equal(probabilities, predict(model, dataset, indices, PREPROCESSING, "cpu", batch_size))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_no_photos_give_no_rows(model, dataset):
    assert predict(model, dataset, [], PREPROCESSING, "cpu").shape == (0, 4)


def test_a_diverged_model_is_one_clear_line_instead_of_figures_of_nothing(model, dataset):
    with torch.no_grad():
        model[-1].weight.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"not finite.*train\.lr"):
        predict(model, dataset, range(5), PREPROCESSING, "cpu")
