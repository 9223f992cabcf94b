"""A network of torch answers for a predictor as ONNX Runtime does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support import make_photo

from plumage.inference.on_device import network_on
from plumage.inference.predictor import Predictor
from plumage.models import create_model
from plumage.models.model_files import read_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")),
]


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_of_torch_gives_the_same_probabilities(tmp_path: Path, device: str) -> None:
    torch.manual_seed(0)
    save_model(
        tmp_path, create_model("efficientnet_b0", 5), list("abcde"), Preprocessing(size=64, crop_fraction=0.9), 0.2
    )
    model, photos = read_model(tmp_path), [make_photo((60, 90, 30 * number), number) for number in range(3)]
    expected = Predictor(model).probabilities(photos)
    found = Predictor(model, network=network_on(device, model)).probabilities(photos)
    np.testing.assert_allclose(found, expected, atol=0 if device == "cpu" else 1e-4)
