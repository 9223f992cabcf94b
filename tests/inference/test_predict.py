"""Predictions keep the order of the indices, do not depend on the batch size, and refuse a diverged model."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from support import make_dataset

from plumage.data.dataset.decode import pixels
from plumage.data.loading.model_input import to_model_input
from plumage.data.loading.transforms import eval_view
from plumage.data.sources.photo import Photo
from plumage.errors import ModelError
from plumage.inference.predict import predict
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(size=32, crop_fraction=0.9)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """23 photos of various sizes in four classes."""
    rng = np.random.default_rng(0)

    def photo(number: int) -> Photo:
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (40 + number, 70 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        return Photo(key=f"{number:02}.png", label="abcd"[number % 4], split=None, data=file.getvalue())

    return make_dataset(tmp_path_factory.mktemp("photos") / "dataset", [photo(number) for number in range(23)])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("efficientnet_lite0", 4)


def test_each_row_equals_the_prediction_for_its_photo_alone(model, dataset):
    indices = [20, 3, 11, 3, 0]
    for mirrored in (False, True):
        seen: list[torch.Tensor] = []
        outputs = predict(model, dataset, indices, PREPROCESSING, "cpu", 2, mirrored, seen.append)
        assert outputs.logits.shape == (5, 4) and outputs.features.shape == (5, 1280)
        assert outputs.logits.dtype == outputs.features.dtype == np.float32
        model.eval()
        for row, view, index in zip(outputs.logits, torch.cat(seen), indices, strict=True):
            expected_view = eval_view(pixels(dataset.photo(index)), PREPROCESSING, mirrored)
            np.testing.assert_array_equal(view, expected_view)
            with torch.no_grad():
                expected = model(to_model_input(torch.from_numpy(expected_view)[None], PREPROCESSING, "cpu"))[0]
            np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)
    weight, bias = (parameter.detach().numpy() for parameter in model.classifier.parameters())
    np.testing.assert_allclose(outputs.features @ weight.T + bias, outputs.logits, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 64])
def test_batch_size_changes_only_rounding_and_repeating_changes_nothing(model, dataset, batch_size):
    indices = range(len(dataset))
    logits = predict(model, dataset, indices, PREPROCESSING, "cpu", batch_size).logits
    np.testing.assert_allclose(logits, predict(model, dataset, indices, PREPROCESSING, "cpu", 4).logits, atol=1e-5)
    np.testing.assert_array_equal(logits, predict(model, dataset, indices, PREPROCESSING, "cpu", batch_size).logits)


def test_no_photos_give_no_rows(model, dataset):
    assert predict(model, dataset, [], PREPROCESSING, "cpu").logits.shape == (0, 4)


def test_a_diverged_model_raises_an_error_that_names_the_learning_rate(model, dataset):
    with torch.no_grad():
        model.classifier.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match=r"not finite.*train\.lr"):
        predict(model, dataset, range(5), PREPROCESSING, "cpu")
