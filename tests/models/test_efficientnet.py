import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from plumage.errors import ModelError
from plumage.models import create_model, list_models
from plumage.models.efficientnet import ConvNormAct, DropPath, MBConv, SqueezeExcite
from plumage.models.networks import configure

# From torchvision's models, at 1,000 and at 400 classes.
PARAMETERS = {
    "efficientnet_b0": (5_288_548, 4_519_948),
    "efficientnet_b1": (7_794_184, 7_025_584),
    "efficientnet_b2": (9_109_994, 8_264_594),
    "efficientnet_b3": (12_233_232, 11_311_032),
    "efficientnet_b4": (19_341_616, 18_265_816),
    "efficientnet_b5": (30_389_784, 29_160_384),
    "efficientnet_b6": (43_040_704, 41_657_704),
    "efficientnet_b7": (66_347_960, 64_811_360),
}
B_MODELS = list(PARAMETERS)
LITE_MODELS = [f"efficientnet_lite{n}" for n in range(5)]
QUICK = ("efficientnet_b0", "efficientnet_b1", "efficientnet_lite0", "efficientnet_lite1")


def slow_if_large(names: list[str]) -> list[object]:
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


def parameters_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def randomised(build: Callable[[], nn.Module]) -> nn.Module:
    """A network in eval mode with random weights and batch-norm statistics.

    The statistics scatter around those of a batch of photos. Drawn without regard to these, signals die out in a deep
    network, so that the logits don't depend on the photo, or explode, so that they depend on rounding errors.
    """
    with torch.device("meta"):
        model = build()
    model.to_empty(device="cpu").eval()
    draw = torch.Generator().manual_seed(7)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0, math.sqrt(2 / module.weight[0].numel()), generator=draw)
            if module.bias is not None:
                module.bias.normal_(0, 0.2, generator=draw)
    for norm in norms:
        norm.weight.uniform_(0.3, 0.6, generator=draw)
        norm.bias.normal_(0, 0.2, generator=draw)
        norm.reset_running_stats()
        momentum, norm.momentum = norm.momentum, 1.0
        norm.train()
    model(torch.randn(4, 3, 65, 97, generator=draw))
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn(norm.num_features, generator=draw)
        norm.running_var *= torch.empty(norm.num_features).uniform_(0.9, 1.25, generator=draw)
        norm.momentum = momentum
        norm.eval()
    return model


def assert_same_logits(reference: nn.Module, name: str, folder: Path) -> None:
    """The reference's state dict, loaded from a file, gives the reference's logits; also at odd and unequal sides."""
    path = folder / "weights.pth"
    torch.save(reference.state_dict(), path)
    model = create_model(name, 1000, path).eval()
    path.unlink()
    for height, width in ((64, 64), (65, 97)):
        photos = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.inference_mode():
            expected = reference(photos)
            assert (expected[0] - expected[1]).std() > 1e-3, "the logits hardly depend on the photo"
            for layout in (torch.contiguous_format, torch.channels_last):
                model.to(memory_format=layout)
                logits = model(photos.to(memory_format=layout))
                error = ((logits - expected).abs().max() / expected.abs().max()).item()
                assert error < 1e-5, f"{name} at {height} x {width}, {layout}: relative error {error:.1e}"


@pytest.mark.parametrize("name", slow_if_large(B_MODELS))
def test_torchvision_state_dict_gives_torchvisions_logits(name: str, tmp_path: Path) -> None:
    assert_same_logits(randomised(getattr(torchvision.models, name)), name, tmp_path)


@pytest.mark.parametrize("name", slow_if_large(B_MODELS + LITE_MODELS))
def test_timm_tf_state_dict_gives_timms_logits(name: str, tmp_path: Path) -> None:
    assert_same_logits(randomised(lambda: timm.create_model(f"tf_{name}")), name, tmp_path)


@pytest.mark.parametrize("name", B_MODELS)
def test_parameter_counts_equal_the_published(name: str) -> None:
    with torch.device("meta"):
        counts = (parameters_of(create_model(name, 1000)), parameters_of(create_model(name, 400)))
    assert counts == PARAMETERS[name]


@pytest.mark.parametrize("name", LITE_MODELS)
def test_lite_parameter_counts_equal_timms(name: str) -> None:
    with torch.device("meta"):
        assert parameters_of(create_model(name, 1000)) == parameters_of(timm.create_model(f"tf_{name}"))


def test_create_model_takes_the_listed_names_and_refuses_others() -> None:
    assert list_models() == B_MODELS + LITE_MODELS
    with pytest.raises(ModelError, match=r"model\.name: got 'resnet50'; takes efficientnet_b0, "):
        create_model("resnet50", 10)


def convolution(padding: str, kernel: int, stride: int) -> nn.Conv2d:
    config = replace(configure("efficientnet_b0"), padding=padding)
    return ConvNormAct(config, 3, 4, kernel, stride).conv


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 8), (8, 8), (9, 9), (12, 31)])
def test_same_padding_is_tensorflows(kernel: int, stride: int, size: tuple[int, int]) -> None:
    """TensorFlow: output ceil(size / stride); the larger half of the padding goes to the bottom and right."""
    conv = convolution("same", kernel, stride)
    photos = torch.randn(2, 3, *size)
    totals = [max(0, (math.ceil(side / stride) - 1) * stride + kernel - side) for side in size]
    (top, left), (height, width) = (totals[0] // 2, totals[1] // 2), size
    padded = torch.zeros(2, 3, height + totals[0], width + totals[1])
    padded[:, :, top : top + height, left : left + width] = photos

    result = conv(photos)

    assert result.shape[2:] == (math.ceil(height / stride), math.ceil(width / stride))
    torch.testing.assert_close(result, nn.functional.conv2d(padded, conv.weight, stride=stride))


def test_padding_matters_only_at_stride_2() -> None:
    """Guards the test above: symmetric and SAME padding differ where TensorFlow's is uneven."""
    photos = torch.randn(1, 3, 8, 8)
    same, symmetric = (convolution(padding, 3, 2) for padding in ("same", "symmetric"))
    symmetric.load_state_dict(same.state_dict())
    assert not torch.allclose(same(photos), symmetric(photos))


def test_stochastic_depth_rates_are_linear_over_the_blocks() -> None:
    model = create_model("efficientnet_b0", 10, drop_path_rate=0.4)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.4 * i / 16 for i in range(16)])
    assert configure("efficientnet_b0").drop_path == 0.2


def skipping_block(drop_prob: float) -> tuple[MBConv, Tensor]:
    """A block with a skip, its batch norm in eval mode so that only stochastic depth is random; and inputs for it."""
    block = create_model("efficientnet_b0", 10, drop_path_rate=0.0).blocks[2]
    assert isinstance(block, MBConv) and block.skips
    block.drop_path.drop_prob = drop_prob
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return block, torch.randn(1, 24, 4, 4).expand(2000, -1, -1, -1)


@torch.no_grad()
def test_stochastic_depth_skips_whole_samples_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    block, photos = skipping_block(0.25)
    changes = block(photos) - photos
    skipped = changes.abs().amax(dim=(1, 2, 3)) < 1e-6
    assert 0.21 < skipped.float().mean() < 0.29

    block.drop_path.drop_prob = 0.0
    undropped = (block(photos) - photos)[0]
    kept = changes[~skipped]
    torch.testing.assert_close(kept, (undropped / 0.75).expand_as(kept), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(changes.mean(0), undropped, rtol=0.1, atol=0.1 * undropped.abs().max().item())


@torch.no_grad()
def test_stochastic_depth_and_dropout_are_off_in_evaluation() -> None:
    model = create_model("efficientnet_b0", 10, drop_rate=0.9, drop_path_rate=0.9).eval()
    plain = create_model("efficientnet_b0", 10, drop_rate=0.0, drop_path_rate=0.0).eval()
    plain.load_state_dict(model.state_dict())
    photos = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(photos), model(photos))
    assert torch.equal(model(photos), plain(photos))


@torch.no_grad()
def test_dropout_falls_on_the_pooled_features() -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", 10, drop_rate=0.5)
    seen: list[Tensor] = []
    model.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.randn(8, 3, 64, 64))
    features = seen[0]
    # ReLU6 and the mean over 2 x 2 leave hardly any zeros of their own.
    assert features.shape == (8, model.num_features)
    assert 0.45 < (features == 0).float().mean() < 0.60


@pytest.mark.parametrize(
    ("key", "argument", "rate"), [("dropout", "drop_rate", 1.0), ("drop_path", "drop_path_rate", -0.1)]
)
def test_a_rate_out_of_range_is_refused(key: str, argument: str, rate: float) -> None:
    with pytest.raises(ModelError, match=rf"model\.{key}: got {rate}; takes a rate from 0 to under 1"):
        create_model("efficientnet_b0", 10, **{argument: rate})


def test_initialisation_has_tensorflows_variances() -> None:
    """Depthwise convolutions too: their fan-out is k * k, not k * k * channels."""
    torch.manual_seed(0)
    model = create_model("efficientnet_b0", 400)
    checked = 0
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.kernel_size[0] ** 2 * module.out_channels / module.groups
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.08)
            checked += module.groups > 1
    assert checked >= 10, "no depthwise convolution was checked"
    weight = model.classifier.weight
    assert weight.abs().max().item() == pytest.approx(1 / math.sqrt(1000), rel=0.01)
    assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * 1000), rel=0.02)
    assert not model.classifier.bias.any()
    assert not [name for name, parameter in model.named_parameters() if name.endswith("bias") and parameter.any()]


def test_from_scratch_batch_norm_and_padding() -> None:
    model = create_model("efficientnet_b0", 10)
    norms = {(norm.eps, norm.momentum) for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)}
    assert norms == {(1e-3, 0.1)}
    assert model.config.padding == "symmetric"
    assert (model.preprocessing.size, model.preprocessing.crop_fraction) == (224, 1.0)


def test_blocks_are_in_order_of_depth() -> None:
    model = create_model("efficientnet_b0", 10)
    widths = [block.project.conv.out_channels for block in model.blocks if isinstance(block, MBConv)]
    assert widths == [16, 24, 24, 40, 40, *[80] * 3, *[112] * 3, *[192] * 4, 320]


def test_gradients_equal_torchvisions() -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_b0", 10, drop_rate=0.0, drop_path_rate=0.0)
    reference = torchvision.models.efficientnet_b0(num_classes=10, dropout=0.0, stochastic_depth_prob=0.0)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        theirs.data.copy_(ours)
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    photos = torch.randn(4, 3, 64, 64)
    for network in (model, reference):
        network.double().train()  # some gradients are zero but for rounding
        nn.functional.cross_entropy(network(photos.double()), torch.arange(4)).backward()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4 * theirs.grad.abs().max().item() + 1e-7)


def test_channels_last_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_b0", 10).eval()
    photos = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = model(photos)
        model.to(memory_format=torch.channels_last)
        logits = model(photos.to(memory_format=torch.channels_last))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_lite_has_relu6_and_no_squeeze_and_excitation() -> None:
    model = create_model("efficientnet_lite0", 10)
    assert {type(m.act) for m in model.modules() if isinstance(m, ConvNormAct)} == {nn.ReLU6, nn.Identity}
    assert not [module for module in model.modules() if isinstance(module, SqueezeExcite | nn.SiLU)]
