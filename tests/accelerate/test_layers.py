"""An accelerated network computes what the plain one does, within rounding, and becomes the plain one again."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from support import needs_kernels
from torch import Tensor, nn

from plumage.accelerate import kernels, layers
from plumage.accelerate.layers import FastConvNormAct, FastMBConv, FastSqueezeExcite, accelerate, unaccelerate
from plumage.architectures import ARCHITECTURES
from plumage.models import create_model
from plumage.models.classifier import ImageClassifier
from plumage.models.efficientnet import ConvNormAct, MBConv, SqueezeExcite
from plumage.models.networks import build_network
from plumage.training.build import train_mode
from plumage.training.distributed import convert_sync_batchnorm

TOLERANCES = {"efficientnet_b0": (1e-4, 2e-4, 1e-5), "efficientnet_lite0": (1e-4, 3e-2, 1e-5)}
"""In float32, of logits, gradients and running statistics: norm of the difference over the plain network's norm. ReLU6 has kinks:
where rounding moves an input across one, its slope jumps, and so do the gradients."""


def network(name: str, padding: str = "symmetric", drop_path: float = 0.0) -> ImageClassifier:
    """With statistics and scales that are not those of a fresh network."""
    torch.manual_seed(0)
    config = replace(ARCHITECTURES[name], padding=padding, dropout=0.0, drop_path=drop_path)
    model = build_network(config, 10)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    model.train()(torch.randn(8, 3, 49, 33))
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 0.1
    return model.to(memory_format=torch.channels_last)


def results(model: ImageClassifier, mode: str, size: tuple[int, int]) -> list[Tensor]:
    """Logits, running statistics and all gradients of a step in "train" or "eval" mode, or with "frozen" batch norm."""
    model = copy.deepcopy(model)
    train_mode(model, freeze_norm=mode == "frozen")
    if mode == "eval":
        model.eval()
    dtype = next(model.parameters()).dtype
    labels = torch.arange(2 if dtype == torch.float64 else 4)  # float64 takes three times as long
    photos = torch.randn(len(labels), 3, *size, generator=torch.Generator().manual_seed(1))
    photos = photos.to(dtype, memory_format=torch.channels_last)
    torch.manual_seed(2)  # stochastic depth
    logits = model(photos)
    F.cross_entropy(logits, labels).backward()
    gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    statistics = torch.cat([buffer.flatten() for buffer in model.buffers() if buffer.is_floating_point()])
    return [logits.detach(), gradients, statistics]


def assert_equal(plain: ImageClassifier, mode: str, size: tuple[int, int]) -> None:
    """Accelerated, `plain` gives the same results, and in float64, which the kernels don't take, to 1e-9."""
    for dtype, tolerances in ((torch.float32, TOLERANCES[plain.config.name]), (torch.float64, (1e-9,) * 3)):
        expected = results(plain.to(dtype), mode, size)
        got = results(accelerate(copy.deepcopy(plain)), mode, size)
        for one, other, tolerance in zip(got, expected, tolerances, strict=True):
            assert (one - other).norm() <= tolerance * other.norm(), f"{dtype}, {mode}, {size}"


CASES = [
    ("efficientnet_b0", "symmetric"),
    ("efficientnet_lite0", "same"),
    pytest.param("efficientnet_b0", "same", marks=pytest.mark.slow),
    pytest.param("efficientnet_lite0", "symmetric", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("mode", ["train", "eval", "frozen"])
@pytest.mark.parametrize(("name", "padding"), CASES)
def test_logits_gradients_and_statistics_equal_the_plain_networks(name: str, padding: str, mode: str) -> None:
    plain = network(name, padding)
    for size in ((48, 48), (49, 33)):
        assert_equal(plain, mode, size)


@pytest.mark.parametrize("as_linear", [True, False])
def test_without_the_kernels_too(monkeypatch: pytest.MonkeyPatch, as_linear: bool) -> None:
    """And on any processor, of which some train pointwise convolutions as matrix products."""
    monkeypatch.setattr(kernels, "compiled", lambda *_: None)
    monkeypatch.setattr(layers, "POINTWISE_AS_LINEAR", as_linear)
    for mode in ("train", "frozen"):
        assert_equal(network("efficientnet_b0"), mode, (49, 33))


def test_stochastic_depth_draws_the_same_samples() -> None:
    assert_equal(network("efficientnet_b0", drop_path=0.5), "train", (48, 48))


def test_synced_norms_are_left_to_themselves() -> None:
    """A subclass of batch norm computes something else than the kernel does."""
    fast = accelerate(network("efficientnet_b0"))
    convert_sync_batchnorm(fast)
    calls: list[str] = []
    for module in fast.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: calls.append("norm"))
    fast.train()(torch.randn(2, 3, 64, 64))
    assert len(calls) == sum(isinstance(module, nn.BatchNorm2d) for module in fast.modules())


@needs_kernels
def test_the_kernels_are_used_in_training() -> None:
    """Guards the tests above: a batch norm in a kernel is not called as a module."""
    fast = accelerate(network("efficientnet_b0"))
    for module in fast.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: pytest.fail("torch's batch norm was called"))
    fast.train()(torch.randn(2, 3, 64, 64))


@needs_kernels
@pytest.mark.parametrize("kernel", ["expand_depthwise", "norm_act_excite_project"])
def test_where_few_channels_meet_many_they_are_computed_in_rows(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """In a B0: the blocks from 16, 24, 24, 40 and 40 channels, and those to as many."""
    few, compute = [], getattr(layers, kernel)
    monkeypatch.setattr(layers, kernel, lambda *given: few.append(len(given)) or compute(*given))
    fast = accelerate(network("efficientnet_b0"))
    fast.train()(torch.randn(max(2, torch.get_num_threads()), 3, 64, 64))
    assert len(few) == 5


def test_it_can_be_undone_and_keeps_the_state_dict() -> None:
    model = create_model("efficientnet_b0", 10)
    plain = {name: type(module) for name, module in model.named_modules()}
    keys = list(model.state_dict())
    assert accelerate(model) is model
    swapped = {type(module) for module in copy.deepcopy(model).modules()}
    assert {FastConvNormAct, FastSqueezeExcite, FastMBConv} < swapped and not {
        ConvNormAct,
        SqueezeExcite,
        MBConv,
    } & swapped
    assert list(model.state_dict()) == keys
    assert unaccelerate(model) is model
    assert {name: type(module) for name, module in model.named_modules()} == plain


def test_another_network_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    accelerate(model)
    assert [type(module) for module in model] == [nn.Conv2d, nn.BatchNorm2d]


def test_an_accelerated_network_can_be_traced() -> None:
    model = accelerate(network("efficientnet_lite0", "same")).eval()
    photos = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        traced = torch.jit.trace(model, photos)
        torch.testing.assert_close(traced(photos), model(photos), rtol=1e-4, atol=1e-5)
