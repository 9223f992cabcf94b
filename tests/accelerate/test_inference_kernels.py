"""The kernel of an EfficientNet block computes what torch's operations do, for any shape, number of photos and threads."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from support import needs_kernels
from torch import Tensor

from plumage.accelerate.kernels.inference import MBConvKernel, in_blocks, pooled

pytestmark = needs_kernels
ACTIVATIONS = {"none": lambda x: x, "silu": F.silu, "relu6": F.relu6}


@pytest.fixture(autouse=True, params=[1, 3], ids=["1 thread", "3 threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """With more threads than photos, several share the rows of one photo."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def per_channel(bias: Tensor) -> Tensor:
    return bias.double()[:, None, None]


@pytest.mark.parametrize("squeezed", [0, 5])
@pytest.mark.parametrize("expands", [True, False], ids=["expands", "does not expand"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_block(kernel: int, stride: int, expands: bool, squeezed: int) -> None:
    for photos, height, width, channels, out, before, after in (
        (1, 1, 1, 8, 8, "silu", "silu"),
        (4, 7, 9, 24, 40, "relu6", "relu6"),
        (2, 31, 18, 48, 48, "none", "silu"),
    ):
        wide = 48
        inputs = channels if expands else wide
        x = torch.randn(photos, inputs, height, width)
        expand, input_bias = torch.randn(wide, inputs) / inputs**0.5, torch.randn(wide)
        depthwise, depthwise_bias = torch.randn(wide, 1, kernel, kernel), torch.randn(wide)
        shapes = [(squeezed, wide), (squeezed,), (wide, squeezed), (wide,)] if squeezed else []
        excite = [torch.randn(shape) for shape in shapes]
        project, project_bias = torch.randn(out, wide), torch.randn(out)
        skips = stride == 1 and inputs == out
        block = MBConvKernel(
            expand=expand if expands else None, input_bias=input_bias, input_act=before, depthwise=depthwise,
            depthwise_bias=depthwise_bias, depthwise_act=after, excite=excite, project=project, project_bias=project_bias,
            stride=stride, skips=skips,
        )  # fmt: skip
        for padding in ((kernel // 2,) * 2, (kernel // 2 - 1, kernel // 2)):  # as in SAME padding
            y = torch.einsum("nihw,oi->nohw", x.double(), expand.double()) if expands else x.double()
            y = ACTIVATIONS[before](y + per_channel(input_bias))
            y = F.pad(y, (padding[1], kernel, padding[0], kernel))  # the surplus is cut off below
            y = F.conv2d(y, depthwise.double(), depthwise_bias.double(), stride, 0, 1, wide)
            y = ACTIVATIONS[after](y[:, :, : -(-height // stride), : -(-width // stride)])
            if excite:
                reduce, reduce_bias, widen, excite_bias = (value.double() for value in excite)
                gate = F.linear(F.silu(F.linear(y.mean((2, 3)), reduce, reduce_bias)), widen, excite_bias).sigmoid()
                y = y * gate[:, :, None, None]
            y = torch.einsum("nihw,oi->nohw", y, project.double()) + per_channel(project_bias)
            y = y + x if skips else y
            got = block(x, padding)
            assert got.shape == y.shape and got.is_contiguous(memory_format=torch.channels_last)
            assert (got - y).norm() < 1e-5 * y.norm()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_pooled_head(activation: str) -> None:
    for photos, height, width, inputs, outputs in ((1, 1, 1, 3, 16), (3, 7, 7, 40, 320), (2, 9, 9, 24, 144)):
        x, weight, bias = (
            torch.randn(photos, inputs, height, width),
            torch.randn(outputs, inputs),
            torch.randn(outputs),
        )
        y = torch.einsum("nihw,oi->nohw", x.double(), weight.double()) + per_channel(bias)
        expected = ACTIVATIONS[activation](y).mean((2, 3))
        assert (pooled(x, in_blocks(weight), bias, activation) - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_stays_nan(activation: str) -> None:
    x, bias = torch.randn(4, 8, 5, 5), torch.zeros(16)
    bias[1] = float("nan")
    means = pooled(x, in_blocks(torch.randn(16, 8)), bias, activation)
    assert torch.isnan(means[:, 1]).all() and torch.isfinite(means[:, [0, *range(2, 16)]]).all()
    block = MBConvKernel(
        expand=None, input_bias=torch.zeros(16), input_act=activation, depthwise=torch.randn(16, 1, 3, 3), depthwise_bias=bias,
        depthwise_act=activation, excite=[], project=torch.eye(16), project_bias=torch.zeros(16), stride=1, skips=False,
    )  # fmt: skip
    assert torch.isnan(block(torch.randn(2, 16, 5, 5), (1, 1))).all()  # each output sums over all channels
