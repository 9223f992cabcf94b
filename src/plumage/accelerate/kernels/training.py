"""Batch norm with its activation in a training step (training.c), on N x C x H x W maps in float32 or bfloat16; all else is float32.

Two passes forward and two backward, and one map kept for backward where torch keeps two. Both with the layer that follows are in
kernels.depthwise and kernels.excite.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plumage.accelerate.kernels import ACTIVATIONS, Activation
from plumage.accelerate.kernels.dispatch import call

NONE = ACTIVATIONS["none"]


class Statistics(NamedTuple):
    """Of a batch norm, per channel: its output is x * scale + shift. `inv_std` is float64."""

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inv_std: Tensor


def norm_act(x: Tensor, norm: nn.BatchNorm2d, activation: Activation) -> Tensor:
    """`activation` of `norm` of N x C x H x W that the kernels support, in training mode; updates running statistics."""
    return updated(x, norm, _NormAct.apply(x, *norm_parameters(norm, activation)))


def norm_parameters(norm: nn.BatchNorm2d, activation: Activation) -> tuple[Tensor, Tensor, float, int]:
    """What a kernel takes of a batch norm and its activation."""
    return norm.weight, norm.bias, norm.eps, ACTIVATIONS[activation]


def updated(x: Tensor, norm: nn.BatchNorm2d, results: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The first of `results`; the mean and variance of `x` update the running ones."""
    y, mean, variance = results
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum or 0.0)
        norm.running_var.lerp_(variance * (count / max(1, count - 1)), norm.momentum or 0.0)
    return y


def statistics(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Statistics, Tensor]:
    """The batch norm of channels_last `x` (Ioffe & Szegedy 2015, arXiv 1502.03167), and its variance."""
    channels = x.shape[1]
    rows = x.numel() // channels
    pivot = x[0, :, 0, 0].float().contiguous()  # sums of differences from it keep their digits if the mean is large
    sums = torch.empty(2, channels, dtype=torch.float64)
    call("channel_sums", None, x, rows, channels, None, None, pivot, NONE, sums, torch.get_num_threads())
    offset = sums[0] / rows
    mean, variance = pivot + offset, (sums[1] / rows - offset.square()).clamp(min=0)
    inv_std = (variance + eps).rsqrt()
    scale, shift = (weight * inv_std).float(), (bias - mean * weight * inv_std).float()
    return Statistics(scale, shift, mean.float(), inv_std), variance.float()


def norm_gradients(
    grad: Tensor, x: Tensor, norm: Statistics, sums: Tensor, act: int, gates: tuple[Tensor, Tensor] | None = None,
    into: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of x and of the norm's weight and bias. `grad` is that of the activation or, with `gates`, of N x C gates and
    offsets of it; `sums` over all rows, 2 x C in float64, of the gradient before the activation, and of its product with x - mean."""
    channels = x.shape[1]
    rows = x.numel() // channels
    x_scale, offset = norm_offsets(norm, sums, rows)
    x_grad = torch.empty_like(x) if into is None else into
    sizes = photos_rows_channels(x) if gates else (1, rows, channels)
    gate, more = gates or (torch.ones(channels), torch.zeros(channels))
    call(
        "norm_act_grad",
        grad,
        x,
        x_grad,
        *sizes,
        gate,
        more,
        norm.scale,
        norm.shift,
        x_scale,
        offset,
        act,
        torch.get_num_threads(),
    )
    return x_grad, (sums[1] * norm.inv_std).float(), sums[0].float()


def norm_offsets(norm: Statistics, sums: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """What times x, and what, is added to the gradient before the activation times `scale`, for the gradient of x."""
    x_scale = -norm.scale * norm.inv_std.square() * sums[1] / rows
    return x_scale.float(), (-norm.scale * sums[0] / rows - x_scale * norm.mean).float()


class _NormAct(torch.autograd.Function):
    """Batch norm and an activation, whose input is computed again backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, act: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        norm, variance = statistics(x, weight, bias, eps)
        y, channels = torch.empty_like(x), x.shape[1]
        rows, threads = x.numel() // channels, torch.get_num_threads()
        call("norm_act", x, y, rows, channels, norm.scale, norm.shift, act, threads)
        ctx.save_for_backward(x, *norm)
        ctx.act = act
        ctx.mark_non_differentiable(norm.mean, variance)
        return y, norm.mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        norm = Statistics(*saved)
        grad = grad.contiguous(memory_format=torch.channels_last)
        channels = x.shape[1]
        sums = torch.empty(2, channels, dtype=torch.float64)
        rows, threads = x.numel() // channels, torch.get_num_threads()
        call("channel_sums", grad, x, rows, channels, norm.scale, norm.shift, norm.mean, ctx.act, sums, threads)
        return *norm_gradients(grad, x, norm, sums, ctx.act), None, None


def photos_rows_channels(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[2] * x.shape[3], x.shape[1]
