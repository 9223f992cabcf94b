"""The Triton kernels compute what torch does. `test_gpu_kernels.py` runs this with TRITON_INTERPRET=1, which needs no GPU."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage.accelerate import kernels
from plumage.accelerate.kernels import gpu, triton_photos
from plumage.accelerate.kernels.photos import resample


def photos(*shape: int) -> Tensor:
    return (torch.randn(shape) * 2 + 3).to(memory_format=torch.channels_last)


def gradients(function: Callable[[Tensor], Tensor], x: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """What `function` of `x` is, and the gradients of `x` and `parameters`."""
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape))
    return [y, x.grad, *(parameter.grad for parameter in parameters)]  # type: ignore[list-item]


def close(ours: list[Tensor], exact: list[Tensor]) -> bool:
    return all(torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4) for a, b in zip(ours, exact, strict=True))


@pytest.mark.parametrize(
    ("shape", "side", "stride", "padding"),
    [((2, 33, 9, 7), 3, 1, (1, 1)), ((1, 40, 8, 10), 5, 2, (2, 2)), ((1, 16, 7, 7), 5, 2, (1, 2))],
)
def test_depthwise_convolutions_equal_torchs(
    shape: tuple[int, ...], side: int, stride: int, padding: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    x, channels = photos(*shape), shape[1]
    weight = nn.Parameter(torch.randn(channels, 1, side, side))
    exact_weight, bias = nn.Parameter(weight.detach().double()), torch.randn(channels)
    ours = gradients(lambda x: gpu.depthwise(x, weight, bias, stride, padding), x, [weight])

    def exactly(x: Tensor) -> Tensor:
        return F.conv2d(x, exact_weight, bias.double(), stride, padding, 1, channels)

    assert close(ours, gradients(exactly, x.double(), [exact_weight]))
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    fused = gpu.depthwise_act(x, weight.detach().flatten(1).T.contiguous(), bias, True, stride, padding)
    assert close([fused], [F.silu(exactly(x.double()))])


@pytest.mark.parametrize("activation", ["silu", "none", "relu6"])
def test_batch_norm_with_its_activation_equals_torchs(activation: kernels.Activation) -> None:
    torch.manual_seed(0)
    norm, act = nn.BatchNorm2d(33, 1e-3, 0.1), {"silu": F.silu, "none": lambda x: x, "relu6": F.relu6}[activation]
    nn.init.uniform_(norm.weight, 0.5, 2)
    exact = copy.deepcopy(norm).double()
    x = photos(3, 33, 9, 7)
    ours = gradients(lambda x: gpu.norm_act(x, norm, activation), x, [norm.weight, norm.bias])
    assert close(ours, gradients(lambda x: act(exact(x)), x.double(), [exact.weight, exact.bias]))
    assert close([norm.running_mean, norm.running_var], [exact.running_mean, exact.running_var])  # type: ignore[list-item]
    assert norm.num_batches_tracked == 1


def test_squeeze_and_excitation_equals_torchs() -> None:
    torch.manual_seed(0)
    reduce, expand = nn.Conv2d(33, 4, 1), nn.Conv2d(4, 33, 1)
    exact = copy.deepcopy(reduce).double(), copy.deepcopy(expand).double()
    x = photos(2, 33, 40, 30)
    ours = gradients(lambda x: gpu.excite(x, reduce, expand), x, [*reduce.parameters(), *expand.parameters()])

    def exactly(x: Tensor) -> Tensor:
        return x * exact[1](F.silu(exact[0](x.mean((2, 3), keepdim=True)))).sigmoid()

    assert close(ours, gradients(exactly, x.double(), [*exact[0].parameters(), *exact[1].parameters()]))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_of_photos_are_resized_as_by_the_loaders_kernel(
    interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, size = np.random.default_rng(0), 24
    crops = [(3, 5, 40, 50, 0), (0, 0, 7, 9, 1), (10, 0, 1, 64, 0), (0, 0, 90, 20, 1)]
    decoded = [generator.integers(0, 256, (3, 64, 90), np.uint8) for _ in crops]
    views = torch.zeros(len(crops) + 1, size, size, 3, dtype=torch.uint8)
    places = [2, 0, 1, 4]
    monkeypatch.setattr(triton_photos, "ROWS", 16)  # the same results; interpreting a program per row takes long
    gpu.resample([torch.from_numpy(photo) for photo in decoded], crops, interpolation, views, places)
    for photo, (left, top, across, down, mirrored), place in zip(decoded, crops, places, strict=True):
        cut = np.ascontiguousarray(photo.transpose(1, 2, 0)[top : top + down, left : left + across])
        expected = np.empty((size, size, 3), np.uint8)
        assert resample(cut, (0, 0, across, down), expected, interpolation, bool(mirrored))
        difference = np.abs(views[place].numpy().astype(int) - expected.astype(int))
        assert difference.max() <= 1 and difference.mean() < 0.05
    assert not views[3].any()
