from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from plumage.errors import WeightsError
from plumage.models import create_model
from plumage.models.efficientnet import EfficientNet
from plumage.models.networks import build_network, configure
from plumage.models.state_dicts import detect_layout, export_state_dict, load_tensors


@pytest.fixture
def model() -> EfficientNet:
    return create_model("efficientnet_lite0", 10)


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """The state dict of another model of this kind."""
    return dict(create_model("efficientnet_lite0", 10).state_dict())


def test_names_decide_and_not_their_order(model: EfficientNet, tensors: dict[str, Tensor]) -> None:
    assert load_tensors(model, dict(sorted(tensors.items())), "file")
    assert all(torch.equal(value, tensors[key]) for key, value in model.state_dict().items())


def test_a_missing_tensor_is_named(model: EfficientNet, tensors: dict[str, Tensor]) -> None:
    del tensors["blocks.3.project.conv.weight"]
    with pytest.raises(WeightsError, match=r"file: lacks 'blocks\.3\.project\.conv\.weight' of efficientnet_lite0"):
        load_tensors(model, tensors, "file")


def test_an_unknown_tensor_is_named(model: EfficientNet, tensors: dict[str, Tensor]) -> None:
    tensors["blocks.16.project.conv.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"'blocks\.16\.project\.conv\.weight' is unknown to efficientnet_lite0"):
        load_tensors(model, tensors, "file")


def test_the_first_tensor_of_another_shape_is_named_and_nothing_is_changed(
    model: EfficientNet, tensors: dict[str, Tensor]
) -> None:
    tensors["head.conv.weight"] = torch.zeros(1280, 352, 1, 1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=r"'head\.conv\.weight' is torch\.float32 \(1280, 352, 1, 1\), but .* takes"):
        load_tensors(model, tensors, "file")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_half_precision_loads_and_integers_do_not(model: EfficientNet, tensors: dict[str, Tensor]) -> None:
    tensors = {key: value.half() for key, value in tensors.items()}
    assert load_tensors(model, tensors, "file")
    torch.testing.assert_close(model.classifier.weight.detach(), tensors["classifier.weight"].float())
    tensors["classifier.weight"] = tensors["classifier.weight"].to(torch.int8)
    with pytest.raises(WeightsError, match=r"'classifier\.weight' is torch\.int8"):
        load_tensors(model, tensors, "file")


def test_a_classifier_of_other_classes_is_left_as_it_was(model: EfficientNet) -> None:
    other = create_model("efficientnet_lite0", 3)
    before = model.classifier.weight.detach().clone()
    assert not load_tensors(model, other.state_dict(), "file")
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.head.conv.weight, other.head.conv.weight)


def test_another_network_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"file: not an EfficientNet \(its first name is 'layer1\.weight'\)"):
        detect_layout({"layer1.weight": torch.zeros(1)}, "file")


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "layout", "changes", "build"),
    [
        ("efficientnet_b0", "torchvision", {"bn_eps": 1e-5}, lambda: torchvision.models.efficientnet_b0(num_classes=7)),
        ("efficientnet_b0", "timm", {"bn_eps": 1e-5}, lambda: timm.create_model("efficientnet_b0", num_classes=7)),
        ("efficientnet_b0", "timm", {"padding": "same"}, lambda: timm.create_model("tf_efficientnet_b0", num_classes=7)),
        ("efficientnet_lite0", "timm", {"padding": "same"}, lambda: timm.create_model("tf_efficientnet_lite0", num_classes=7)),
    ],
)  # fmt: skip
def test_an_exported_state_dict_gives_the_same_logits_elsewhere(
    name: str, layout: str, changes: dict[str, object], build: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    photos = torch.randn(4, 3, 64, 64)
    model = build_network(replace(configure(name, 0.0, 0.0), **changes), 7).train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # statistics of these photos, so that the logits depend on them
    model(photos)
    reference = build()
    reference.load_state_dict(export_state_dict(model, layout), strict=True)
    logits = model.eval()(photos)
    assert logits.std() > 1e-2
    torch.testing.assert_close(reference.eval()(photos), logits, rtol=1e-4, atol=1e-5)


def test_an_exported_state_dict_loads_again(model: EfficientNet) -> None:
    again = create_model("efficientnet_lite0", 10)
    assert load_tensors(again, export_state_dict(model, "lukemelas"), "export")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
