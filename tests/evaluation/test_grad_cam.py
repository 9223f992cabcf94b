"""Grad-CAM as the paper defines it, highest where the class is in the photo."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from plumage.accelerate.layers import accelerate, unaccelerate
from plumage.architectures import EfficientNetConfig
from plumage.evaluation.example_photos import grad_cam
from plumage.models import create_model
from plumage.models.classifier import ImageClassifier
from plumage.models.networks import build_network

SIDE, PATCH = 192, 56
CORNERS = {"top left": (0, 0), "top right": (0, 1), "bottom left": (1, 0), "bottom right": (1, 1)}


def photos_with_patch(count: int, seed: int, corner: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    """Noisy photos of two classes: a striped patch, the "bird" (class 1), or a plain one (class 0), anywhere or in `corner`."""
    rng = np.random.default_rng(seed)
    photos = rng.normal(0, 0.3, (count, 3, SIDE, SIDE)).astype(np.float32)
    labels = np.arange(count) % 2 if corner is None else np.ones(count, int)
    for photo, label in zip(photos, labels, strict=True):
        top, left = (np.array(corner) * (SIDE - PATCH)) if corner else rng.integers(0, SIDE - PATCH + 1, 2)
        patch = np.full((3, PATCH, PATCH), 1.0)
        if label:
            patch = patch * np.where(np.arange(PATCH) // 6 % 2, 2.0, -2.0) * np.array([1, -1, 1])[:, None, None]
        photo[:, top : top + PATCH, left : left + PATCH] = patch
    return torch.from_numpy(photos), torch.from_numpy(labels.astype(np.int64))


@pytest.fixture(scope="module")
def trained() -> ImageClassifier:
    """A small network that separates the two classes of `photos_with_patch`."""
    torch.manual_seed(0)
    model = build_network(EfficientNetConfig("small", 0.5, 0.3, SIDE, dropout=0.0, drop_path=0.0), 2).train()
    accelerate(model.to(memory_format=torch.channels_last))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(40):
        photos, labels = photos_with_patch(8, step)
        photos = photos.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        F.cross_entropy(model(photos), labels).backward()
        optimizer.step()
    photos, labels = photos_with_patch(40, 99)
    with torch.inference_mode():
        assert (model.eval()(photos).argmax(1) == labels).float().mean() > 0.9
    return unaccelerate(model)


@pytest.mark.slow
@pytest.mark.parametrize("corner", CORNERS)
def test_the_map_is_highest_in_the_corner_where_the_bird_is(trained: ImageClassifier, corner: str) -> None:
    down, right = CORNERS[corner]
    photos, labels = photos_with_patch(6, 7, (down, right))
    heat = grad_cam(trained, photos, labels).numpy()
    assert heat.shape == (6, SIDE // 32, SIDE // 32)
    half = SIDE // 64
    inside = heat[:, half * down : half * (down + 1), half * right : half * (right + 1)].sum(axis=(1, 2))
    assert (inside > 0.6 * heat.sum(axis=(1, 2))).all(), heat.round(2)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0"])
def test_it_equals_the_paper_s_grad_cam_with_a_backward_pass(name: str) -> None:
    torch.manual_seed(1)
    model = create_model(name, num_classes=5).eval()
    model.classifier.weight.data.normal_()
    photos, classes = torch.randn(3, 3, 96, 64), torch.tensor([4, 0, 2])
    maps = model.head(model.blocks(model.stem(photos))).detach().requires_grad_()
    logits = model.classifier(F.adaptive_avg_pool2d(maps, 1).flatten(1))
    logits[torch.arange(3), classes].sum().backward()
    assert maps.grad is not None
    importance = maps.grad.mean((2, 3), keepdim=True)  # equation 1
    expected = (importance * maps).sum(1).relu().detach()  # equation 2
    heat = grad_cam(model, photos, classes)
    assert heat.shape == (3, 3, 2)
    torch.testing.assert_close(heat, expected / expected.amax((1, 2), keepdim=True), rtol=1e-4, atol=1e-5)


def test_the_model_is_unchanged_and_a_map_does_not_depend_on_its_batch() -> None:
    model = create_model("efficientnet_lite0", num_classes=3).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    photos, classes = torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 0])
    heat = grad_cam(model, photos, classes)
    assert torch.equal(heat, grad_cam(model, photos, classes))
    alone = torch.cat([grad_cam(model, photos[i : i + 1], classes[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(heat, alone, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(value.requires_grad and value.grad is None for value in model.parameters())
    assert not model.training
    model(photos).sum().backward()  # still trainable


def test_the_map_is_zero_without_evidence_for_the_class() -> None:
    model = create_model("efficientnet_lite0", num_classes=2).eval()
    model.classifier.weight.data.fill_(-1.0)  # maps of ReLU6 are never negative
    heat = grad_cam(model, torch.randn(2, 3, 64, 64), torch.tensor([0, 1]))
    assert torch.equal(heat, torch.zeros(2, 2, 2))
