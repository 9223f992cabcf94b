"""A block of an EfficientNet in C answers what torch's operations do, for any shape, number of photos and threads."""

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
    """More threads than photos share a photo's rows."""
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def per_channel(offset: Tensor) -> Tensor:
    return offset.double()[:, None, None]


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
        expand, offset_before = torch.randn(wide, inputs) / inputs**0.5, torch.randn(wide)
        taps, offset = torch.randn(wide, 1, kernel, kernel), torch.randn(wide)
        shapes = [(squeezed, wide), (squeezed,), (wide, squeezed), (wide,)] if squeezed else []
        excite = [torch.randn(shape) for shape in shapes]
        project, project_offset = torch.randn(out, wide), torch.randn(out)
        skips = stride == 1 and inputs == out
        block = MBConvKernel(
            expand if expands else None, offset_before, before, taps, offset, after, excite, project, project_offset, stride, skips
        )  # fmt: skip
        for padding in ((kernel // 2,) * 2, (kernel // 2 - 1, kernel // 2)):  # SAME's, too
            y = torch.einsum("nihw,oi->nohw", x.double(), expand.double()) if expands else x.double()
            y = ACTIVATIONS[before](y + per_channel(offset_before))
            y = F.pad(y, (padding[1], kernel, padding[0], kernel))  # what is too much is cut off
            y = F.conv2d(y, taps.double(), offset.double(), stride, 0, 1, wide)
            y = ACTIVATIONS[after](y[:, :, : -(-height // stride), : -(-width // stride)])
            if excite:
                reduce, reduce_bias, widen, excite_bias = (value.double() for value in excite)
                gate = F.linear(F.silu(F.linear(y.mean((2, 3)), reduce, reduce_bias)), widen, excite_bias).sigmoid()
                y = y * gate[:, :, None, None]
            y = torch.einsum("nihw,oi->nohw", y, project.double()) + per_channel(project_offset)
            y = y + x if skips else y
            got = block(x, padding)
            assert got.shape == y.shape and got.is_contiguous(memory_format=torch.channels_last)
            assert (got - y).norm() < 1e-5 * y.norm()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_means_of_the_head(activation: str) -> None:
    for photos, height, width, inputs, outputs in ((1, 1, 1, 3, 16), (3, 7, 7, 40, 320), (2, 9, 9, 24, 144)):
        x, weight, offset = (
            torch.randn(photos, inputs, height, width),
            torch.randn(outputs, inputs),
            torch.randn(outputs),
        )
        y = torch.einsum("nihw,oi->nohw", x.double(), weight.double()) + per_channel(offset)
        expected = ACTIVATIONS[activation](y).mean((2, 3))
        assert (pooled(x, in_blocks(weight), offset, activation) - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_no_number_stays_none(activation: str) -> None:
    x, offset = torch.randn(4, 8, 5, 5), torch.zeros(16)
    offset[1] = float("nan")
    means = pooled(x, in_blocks(torch.randn(16, 8)), offset, activation)
    assert torch.isnan(means[:, 1]).all() and torch.isfinite(means[:, [0, *range(2, 16)]]).all()
    project = torch.eye(16)
    block = MBConvKernel(
        None, torch.zeros(16), activation, torch.randn(16, 1, 3, 3), offset, activation, [], project, torch.zeros(16), 1, False
    )  # fmt: skip
    assert torch.isnan(block(torch.randn(2, 16, 5, 5), (1, 1))).all()  # each sums over all channels
