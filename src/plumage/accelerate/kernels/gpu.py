"""Kernels of a training step on a GPU, in Triton, on N x C x H x W maps in channels_last memory; all are deterministic.

- Batch norm with its activation, and squeeze-and-excitation: as few passes as those in C (kernels/training.py) make.
- Depthwise convolutions, as an operation that torch.compile knows. On an H200 cuDNN's fastest ones take three quarters of their
  time, but cuDNN doesn't promise that these are deterministic.
- The loader's crops, resized.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plumage.accelerate.kernels import ACTIVATIONS, Activation
from plumage.accelerate.kernels.excite import gate_gradients, gate_of

HAS_TRITON = find_spec("triton") is not None
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIDES = (3, 5)


def supports(x: Tensor, side: int) -> bool:
    """Whether `depthwise` can take `x` with kernels of `side` pixels here: on a GPU, with Triton, and not to be exported."""
    exported = not torch.compiler.is_compiling() and torch.jit.is_tracing()
    return x.is_cuda and HAS_TRITON and x.dtype in DTYPES and side in SIDES and not exported


def supports_training(x: Tensor) -> bool:
    """Whether `norm_act` and `excite` can take `x` here: on a GPU, with Triton, and neither compiled nor exported."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return x.is_cuda and HAS_TRITON and x.dtype in DTYPES and not traced


def norm_act(x: Tensor, norm: nn.BatchNorm2d, activation: Activation) -> Tensor:
    """`activation` of `norm` of N x C x H x W, in training mode; updates the running statistics."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    running = norm.running_mean, norm.running_var, norm.num_batches_tracked
    settings = norm.momentum or 0.0, norm.eps, ACTIVATIONS[activation]
    return cast(Tensor, _NormAct.apply(x, norm.weight, norm.bias, running, *settings))


class _NormAct(torch.autograd.Function):
    """Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) and an activation, whose input is computed again backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running: tuple[Tensor, Tensor, Tensor], momentum: float,
        eps: float, act: int,
    ) -> Tensor:  # fmt: skip
        from plumage.accelerate.kernels import triton_maps

        x = x.contiguous(memory_format=torch.channels_last)
        sums = triton_maps.channel_sums(x, None, None, None, None, act)
        statistics = triton_maps.finish_norm(sums, x, weight, bias, running, momentum, eps)
        y = torch.empty_like(x)
        triton_maps.norm_act(x, statistics, act, y)
        ctx.save_for_backward(x, statistics)
        ctx.act = act
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from plumage.accelerate.kernels import triton_maps

        x, statistics = ctx.saved_tensors
        scale, shift, mean, _ = statistics
        grad = grad.contiguous(memory_format=torch.channels_last)
        sums = triton_maps.channel_sums(x, grad, scale, shift, mean, ctx.act)
        factors = triton_maps.finish_norm_grad(sums, statistics, x.numel() // x.shape[1])
        x_grad = torch.empty_like(x)
        triton_maps.norm_act_grad(grad, x, statistics, factors, ctx.act, x_grad)
        return x_grad, factors[2], factors[3], None, None, None, None


def excite(x: Tensor, reduce: nn.Conv2d, expand: nn.Conv2d) -> Tensor:
    """Squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507) of N x C x H x W."""
    weights = (reduce.weight.flatten(1), reduce.bias, expand.weight.flatten(1), expand.bias)
    return cast(Tensor, _Excite.apply(x, *weights))


class _Excite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor
    ) -> Tensor:
        from plumage.accelerate.kernels import triton_maps

        x = x.contiguous(memory_format=torch.channels_last)
        means = triton_maps.photo_sums(x, None) / (x.shape[2] * x.shape[3])
        squeezed, gate = gate_of(means, reduce, reduce_bias, expand, expand_bias)
        ctx.save_for_backward(x, means, squeezed, gate, reduce, expand)
        y = torch.empty_like(x)
        triton_maps.scaled(x, gate, None, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        from plumage.accelerate.kernels import triton_maps

        x, means, squeezed, gate, reduce, expand = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        gate_grad, x_grad = triton_maps.photo_sums(x, grad), torch.empty_like(x)
        means_grad, weight_grads = gate_gradients(gate_grad, means, squeezed, gate, reduce, expand)
        triton_maps.scaled(grad, gate, means_grad.div_(x.shape[2] * x.shape[3]), x_grad)
        return x_grad, *weight_grads


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]) -> Tensor:
    """Depthwise convolution of N x C x H x W with C x 1 x K x K, in the dtype of `x`, or of autocast."""
    if torch.is_autocast_enabled("cuda"):
        x = x.to(torch.get_autocast_dtype("cuda"))
    y = _depthwise(x, weight.flatten(1).T.contiguous(), None, False, stride, *padding)
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]


def depthwise_act(x: Tensor, taps: Tensor, bias: Tensor, silu: bool, stride: int, padding: tuple[int, int]) -> Tensor:
    """The same plus a bias, with SiLU if asked, in one pass, for inference; `taps` are K*K x C."""
    return _depthwise(x, taps, bias, silu, stride, *padding)


def _output(x: Tensor, side: int, stride: int, pad_y: int, pad_x: int) -> Tensor:
    height, width = (
        (size + 2 * pad - side) // stride + 1 for size, pad in zip(x.shape[2:], (pad_y, pad_x), strict=True)
    )
    return _map(x, (x.shape[0], x.shape[1], height, width))


def _map(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, device=x.device, dtype=x.dtype, memory_format=torch.channels_last)


def side_of(taps: Tensor) -> int:
    """K of K*K x C taps."""
    return 3 if len(taps) == 9 else 5


@torch.library.custom_op("plumage::depthwise", mutates_args=())
def _depthwise(x: Tensor, taps: Tensor, bias: Tensor | None, silu: bool, stride: int, pad_y: int, pad_x: int) -> Tensor:
    from plumage.accelerate.kernels import triton_depthwise

    x = x.contiguous(memory_format=torch.channels_last)
    y = _output(x, side_of(taps), stride, pad_y, pad_x)
    triton_depthwise.forward(x, taps, bias, silu, stride, (pad_y, pad_x), y)
    return y


@torch.library.custom_op("plumage::depthwise_grad", mutates_args=())
def _depthwise_grad(
    grad: Tensor, x: Tensor, taps: Tensor, stride: int, pad_y: int, pad_x: int
) -> tuple[Tensor, Tensor]:
    from plumage.accelerate.kernels import triton_depthwise

    grad, x = (value.contiguous(memory_format=torch.channels_last) for value in (grad, x))
    x_grad = _map(x, tuple(x.shape))
    triton_depthwise.input_grad(grad, taps, stride, (pad_y, pad_x), x_grad)
    return x_grad, triton_depthwise.taps_grad(grad, x, side_of(taps), stride, (pad_y, pad_x))


@_depthwise.register_fake
def _(x: Tensor, taps: Tensor, bias: Tensor | None, silu: bool, stride: int, pad_y: int, pad_x: int) -> Tensor:
    return _output(x, side_of(taps), stride, pad_y, pad_x)


@_depthwise_grad.register_fake
def _(grad: Tensor, x: Tensor, taps: Tensor, stride: int, pad_y: int, pad_x: int) -> tuple[Tensor, Tensor]:
    return _map(x, tuple(x.shape)), torch.empty_like(taps, dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, taps, _, _, *geometry = inputs
    ctx.save_for_backward(x, taps)
    ctx.geometry = geometry


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x_grad, taps_grad = _depthwise_grad(grad, *ctx.saved_tensors, *ctx.geometry)
    return x_grad, taps_grad, None, None, None, None, None


_depthwise.register_autograd(_backward, setup_context=_keep)


def resample(
    photos: Sequence[Tensor], crops: Sequence[Sequence[int]], interpolation: str, views: Tensor, places: Sequence[int]
) -> None:
    """Resize a crop of each photo, uint8 3 x H x W, into `views`[place], uint8 size x size x 3.

    A crop is (left, top, across, down, mirrored) in pixels; `interpolation` is "bilinear" or "bicubic". As photos.c does it, in
    float32, so that a value may differ by one.
    """
    from plumage.accelerate.kernels import triton_photos

    sizes = [photo.shape[1:] for photo in photos]
    table = [
        [photo.data_ptr(), place, height, width, *crop]
        for photo, place, (height, width), crop in zip(photos, places, sizes, crops, strict=True)
    ]
    triton_photos.resample(torch.tensor(table), max(crop[3] for crop in crops), interpolation == "bicubic", views)
