"""Batch norm with its activation in a training step (training.c), on N x C x H x W maps in float32 or bfloat16; all else is float32.

Two passes forward and two backward, and one map kept for backward where torch keeps two. Both with the layer that follows are in
kernels.depthwise and kernels.excite.
"""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plumage.accelerate.kernels import ACTIVATIONS, Activation
from plumage.accelerate.kernels.dispatch import call

NONE = ACTIVATIONS["none"]


class NormAct(NamedTuple):
    """What a kernel takes of a batch norm and its activation, besides its weight and bias. The buffers are updated."""

    eps: float
    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    act: int


def norm_act(x: Tensor, norm: nn.BatchNorm2d, activation: Activation, moments: Tensor | None = None) -> Tensor:
    """`activation` of `norm` of N x C x H x W that the kernels support, in training mode.

    `moments`: the mean and variance of `x`, if they are known, 2 x C in float64."""
    return cast(Tensor, _NormAct.apply(x, *norm_parameters(norm, activation), moments))


def norm_parameters(norm: nn.BatchNorm2d, activation: Activation) -> tuple[Tensor, Tensor, NormAct]:
    """What a kernel takes of a batch norm and its activation."""
    mean, variance, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None and variance is not None and count is not None
    return (
        norm.weight,
        norm.bias,
        NormAct(norm.eps, norm.momentum or 0.0, mean, variance, count, ACTIVATIONS[activation]),
    )


def batch_norm(
    x: Tensor, channels: int, weight: Tensor, bias: Tensor, layer: NormAct, moments: Tensor | None
) -> Tensor:
    """Of a batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) of channels_last `x`, or of what is made of it with `moments`:
    4 x C of scale, shift, mean and inverse standard deviation. Its output is x * scale + shift."""
    norm, rows = torch.empty(4, channels), x.numel() // x.shape[1]
    eps, momentum, *running, _ = layer
    call("batch_norm", x, moments, rows, channels, weight, bias, eps, momentum, norm, *running, torch.get_num_threads())
    return norm


class _NormAct(torch.autograd.Function):
    """Batch norm and an activation, whose input is computed again backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: NormAct, moments: Tensor | None) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y, channels = torch.empty_like(x), x.shape[1]
        norm = batch_norm(x, channels, weight, bias, layer, moments)
        call("norm_act", x, y, x.numel() // channels, channels, norm, layer.act, torch.get_num_threads())
        ctx.save_for_backward(x, norm)
        ctx.act = layer.act
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm = ctx.saved_tensors
        grad, channels = grad.contiguous(memory_format=torch.channels_last), x.shape[1]
        x_grad, norm_grads, rows = torch.empty_like(x), torch.empty(2, channels), x.numel() // channels
        call("norm_act_grad", grad, x, x_grad, rows, channels, norm, ctx.act, norm_grads, torch.get_num_threads())
        return x_grad, *norm_grads, None, None


def photos_rows_channels(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[2] * x.shape[3], x.shape[1]
