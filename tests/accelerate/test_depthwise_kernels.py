"""The depthwise convolution's kernels compute what torch does, closer to the exact result."""

import pytest
import torch
import torch.nn.functional as F
from kernel_checks import ACTIVATIONS, assert_near, both, gradients, map_of, norms
from support import needs_kernels
from torch import Tensor, nn

from plumage.accelerate.kernels.depthwise import depthwise, expand_depthwise, norm_act_depthwise
from plumage.accelerate.layers import geometry as geometry_of
from plumage.models.efficientnet import Conv2dSame


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@needs_kernels
@pytest.mark.parametrize("biased", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@both
def test_a_depthwise_convolution(dtype: torch.dtype, kernel: int, stride: int, biased: bool) -> None:
    for height, width, channels in ((1, 1, 16), (2, 3, 16), (7, 7, 48), (14, 15, 16), (31, 9, 32)):
        for padding in ((kernel // 2, kernel // 2), (kernel // 2 - 1, kernel // 2)):  # as in SAME padding
            if min(height + 2 * padding[0], width + 2 * padding[1]) < kernel:
                continue
            x = torch.randn(3, channels, height, width).to(dtype).double().requires_grad_()
            weight = torch.randn(channels, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
            bias = torch.randn(channels, dtype=torch.float64, requires_grad=True) if biased else None
            expected = F.conv2d(x, weight, bias, stride, padding, 1, channels)
            wanted = torch.randn_like(expected).to(dtype).double()
            mine = [None if tensor is None else tensor.detach().float().requires_grad_() for tensor in (weight, bias)]
            seen = x.detach().to(dtype).requires_grad_()
            made = depthwise(seen, *mine, stride, padding)  # type: ignore[arg-type]
            got = gradients(made, wanted.to(dtype), seen, *mine)
            assert_near(got, gradients(expected, wanted, x, weight, bias), dtype)


@needs_kernels
@pytest.mark.parametrize("same", [True, False], ids=["same", "symmetric"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@both
def test_batch_norm_and_activation_with_a_depthwise_convolution(
    dtype: torch.dtype, kernel: int, stride: int, same: bool
) -> None:
    for height, width, channels in ((1, 1, 16), (2, 3, 16), (7, 7, 48), (14, 15, 16), (31, 9, 32)):
        for activation in ("silu", "none"):
            (exact, ours), (x, mine) = norms(channels), map_of((3, channels, height, width), dtype)
            conv = (Conv2dSame if same and stride > 1 else nn.Conv2d)(
                channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False
            )
            weight = conv.weight.detach().clone().requires_grad_()
            expected = conv.double()(ACTIVATIONS[activation](exact(x)))
            wanted = torch.randn_like(expected).to(dtype).double()
            layers = ours, activation, weight, geometry_of(conv, mine)
            made, moments = norm_act_depthwise(mine, *layers)  # type: ignore[arg-type]
            assert_near(list(moments), moments_of(made))
            assert_near(
                gradients(made, wanted.to(dtype), mine, ours.weight, ours.bias, weight),
                gradients(expected, wanted, x, exact.weight, exact.bias, conv.weight),
                dtype,
            )
            assert_near(list(ours.buffers()), list(exact.buffers()))


@needs_kernels
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
@both
def test_a_pointwise_convolution_with_what_follows(dtype: torch.dtype, kernel: int, stride: int) -> None:
    """Also if the input's mean is large, and if its channels don't fill whole registers."""
    for height, width, inputs, channels in (
        (1, 2, 4, 16),
        (7, 7, 5, 48),
        (14, 15, 24, 16),
        (31, 9, 40, 32),
        (9, 29, 72, 16),
    ):
        for activation, mean in (("silu", 0), ("none", 30)):
            (exact, ours), (x, mine) = norms(channels), map_of((3, inputs, height, width), dtype, mean)
            expand = nn.Conv2d(inputs, channels, 1, bias=False)
            conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
            parameters = [layer.weight.detach().clone().requires_grad_() for layer in (expand, conv)]
            expected = conv.double()(ACTIVATIONS[activation](exact(expand.double()(x))))
            wanted = torch.randn_like(expected).to(dtype).double()
            made, moments = expand_depthwise(
                mine, parameters[0].flatten(1), ours, activation, parameters[1], geometry_of(conv, mine)
            )  # type: ignore[arg-type]
            assert_near(list(moments), moments_of(made))
            assert_near(
                gradients(made, wanted.to(dtype), mine, ours.weight, ours.bias, *parameters),
                gradients(expected, wanted, x, exact.weight, exact.bias, expand.weight, conv.weight),
                dtype,
            )
            assert_near(list(ours.buffers()), list(exact.buffers()))


def moments_of(made: Tensor) -> list[Tensor]:
    """The mean and variance of each channel, in float64."""
    exact = made.detach().double()
    return [exact.mean((0, 2, 3)), exact.var((0, 2, 3), correction=0)]
