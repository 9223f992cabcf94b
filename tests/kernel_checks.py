"""What the kernels of a training step are compared with: torch's operations in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"none": lambda x: x, "silu": F.silu, "relu6": F.relu6}
DTYPES = {torch.float32: 1e-5, torch.bfloat16: 6e-3}
"""Dtype of a map, and the relative error that its rounding may cause."""
both = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])


def gradients(outputs: Tensor, wanted: Tensor, *inputs: Tensor | None) -> list[Tensor]:
    return [outputs.detach(), *torch.autograd.grad((outputs * wanted).sum(), [x for x in inputs if x is not None])]


def assert_near(got: list[Tensor], exact: list[Tensor], dtype: torch.dtype = torch.float32) -> None:
    for one, other in zip(got, exact, strict=True):
        error = (one.double() - other.double()).norm() / other.double().norm().clamp(min=1)
        assert error < DTYPES[dtype]


def norms(channels: int) -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    """A batch norm in float64 and the same in float32."""
    exact = nn.BatchNorm2d(channels).double()
    nn.init.uniform_(exact.weight, 0.5, 2)
    nn.init.normal_(exact.bias)
    return exact, copy.deepcopy(exact).float()


def map_of(shape: tuple[int, ...], dtype: torch.dtype, mean: float = 2) -> tuple[Tensor, Tensor]:
    """A feature map in float64 and in `dtype`."""
    x = (torch.randn(shape) * 3 + mean).to(dtype)
    return x.double().requires_grad_(), x.requires_grad_()
