"""The plain model goes through torch's and ONNX's tools, and comes out with the same logits."""

import copy
import warnings
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from plumage.models import create_model
from plumage.models.classifier import ImageClassifier

pytestmark = pytest.mark.filterwarnings("ignore")
PHOTOS = torch.randn(3, 3, 64, 80, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["efficientnet_b0", "efficientnet_lite0"])
def model(request: pytest.FixtureRequest) -> ImageClassifier:
    """Symmetric padding with SiLU and squeeze-and-excitation; SAME padding with ReLU6 and published weights."""
    torch.manual_seed(0)
    if request.param == "efficientnet_lite0":
        return create_model(request.param, 10, "imagenet").eval()
    model = create_model(request.param, 10, drop_path_rate=0.0)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # statistics of these photos, so that the logits depend on them
    model.train()(PHOTOS)
    return model.eval()


@torch.no_grad()
def logits_of(model: ImageClassifier) -> Tensor:
    logits: Tensor = model(PHOTOS)
    assert logits.std() > 1e-3
    return logits


def run_onnx(path: Path) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {session.get_inputs()[0].name: PHOTOS.numpy()})
    return torch.from_numpy(logits)


def test_deepcopy(model: ImageClassifier) -> None:
    assert torch.equal(logits_of(copy.deepcopy(model)), logits_of(model))


def test_jit_trace(model: ImageClassifier) -> None:
    traced = torch.jit.trace(model, PHOTOS[:1])
    torch.testing.assert_close(traced(PHOTOS), logits_of(model))


@pytest.mark.slow
def test_torch_export_with_a_dynamic_batch(model: ImageClassifier) -> None:
    exported = torch.export.export(model, (PHOTOS[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.testing.assert_close(exported.module()(PHOTOS), logits_of(model))


@pytest.mark.slow
def test_onnx_export_with_a_dynamic_batch(model: ImageClassifier, tmp_path: Path) -> None:
    batch = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        model, (PHOTOS[:2],), tmp_path / "model.onnx", dynamo=True, dynamic_shapes=(batch,), verbose=False
    )
    torch.testing.assert_close(run_onnx(tmp_path / "model.onnx"), logits_of(model), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_older_onnx_export_with_a_dynamic_batch(model: ImageClassifier, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (PHOTOS[:2],), tmp_path / "model.onnx", dynamo=False,
            input_names=["photos"], dynamic_axes={"photos": {0: "batch"}},
        )  # fmt: skip
    torch.testing.assert_close(run_onnx(tmp_path / "model.onnx"), logits_of(model), rtol=1e-4, atol=1e-4)
