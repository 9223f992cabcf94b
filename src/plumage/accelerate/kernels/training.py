"""Kernels of a training step (training.c), on N x C x H x W maps in float32 or bfloat16; everything else is float32.

- Batch norm with its activation: two passes forward and two backward, and one map kept for backward where torch keeps two.
- Squeeze-and-excitation: one pass forward and two backward, where torch makes ten.
- The backward pass of a depthwise convolution: torch's takes tens of times as long in bfloat16.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plumage.accelerate.kernels import ACTIVATIONS, Activation
from plumage.accelerate.kernels.dispatch import call


def norm_act(x: Tensor, norm: nn.BatchNorm2d, activation: Activation) -> Tensor:
    """`activation` of `norm` of N x C x H x W that the kernels support, in training mode; updates running statistics."""
    y, mean, variance = _NormAct.apply(x, norm.weight, norm.bias, norm.eps, ACTIVATIONS[activation])
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum or 0.0)
        norm.running_var.lerp_(variance * (count / max(1, count - 1)), norm.momentum or 0.0)
    return cast(Tensor, y)


class _NormAct(torch.autograd.Function):
    """Batch norm (Ioffe & Szegedy 2015, arXiv 1502.03167) and an activation, whose input is computed again backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, act: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        channels, threads = x.shape[1], torch.get_num_threads()
        rows = x.numel() // channels
        pivot = x[0, :, 0, 0].float().contiguous()  # sums of differences from it keep their digits if the mean is large
        sums = torch.empty(2, channels, dtype=torch.float64)
        call("channel_sums", None, x, rows, channels, None, None, pivot, 0, sums, threads)
        offset = sums[0] / rows
        mean, variance = pivot + offset, (sums[1] / rows - offset.square()).clamp(min=0)
        inv_std = (variance + eps).rsqrt()
        scale, shift = (weight * inv_std).float(), (bias - mean * weight * inv_std).float()
        y = torch.empty_like(x)
        call("norm_act", x, y, rows, channels, scale, shift, act, threads)
        mean, variance = mean.float(), variance.float()
        ctx.save_for_backward(x, scale, shift, mean, inv_std)
        ctx.act = act
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, scale, shift, mean, inv_std = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        channels, threads = x.shape[1], torch.get_num_threads()
        rows = x.numel() // channels
        sums = torch.empty(2, channels, dtype=torch.float64)
        call("channel_sums", grad, x, rows, channels, scale, shift, mean, ctx.act, sums, threads)
        x_scale = -scale * inv_std.square() * sums[1] / rows
        offset = (-scale * sums[0] / rows - x_scale * mean).float()
        x_grad = torch.empty_like(x)
        call("norm_act_grad", grad, x, x_grad, rows, channels, scale, shift, x_scale.float(), offset, ctx.act, threads)
        return x_grad, (sums[1] * inv_std).float(), sums[0].float(), None, None


def excite(x: Tensor, reduce: nn.Conv2d, expand: nn.Conv2d) -> Tensor:
    """Squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507) of N x C x H x W that the kernels support."""
    weights = (reduce.weight.flatten(1), reduce.bias, expand.weight.flatten(1), expand.bias)
    return cast(Tensor, _Excite.apply(x, *weights))


class _Excite(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        means = x.mean((2, 3), dtype=torch.float32)
        squeezed, gate = gate_of(means, reduce, reduce_bias, expand, expand_bias)
        ctx.save_for_backward(x, means, squeezed, gate, reduce, expand)
        y = torch.empty_like(x)
        call("excite", x, y, *_photos_rows_channels(x), gate, torch.zeros_like(gate), torch.get_num_threads())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, means, squeezed, gate, reduce, expand = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        photos, rows, channels = _photos_rows_channels(x)
        gate_grad, x_grad = torch.empty_like(gate), torch.empty_like(x)
        call("excite_sums", x, grad, photos, rows, channels, gate_grad, torch.get_num_threads())
        means_grad, weight_grads = gate_gradients(gate_grad, means, squeezed, gate, reduce, expand)
        offset = means_grad.div_(rows)
        call("excite", grad, x_grad, photos, rows, channels, gate, offset, torch.get_num_threads())
        return x_grad, *weight_grads


def gate_of(
    means: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the N x C means of a map: the squeezed N x S, before their activation, and the N x C gate. All float32."""
    with torch.autocast(means.device.type, enabled=False):
        squeezed = F.linear(means, reduce, reduce_bias)
        return squeezed, F.linear(F.silu(squeezed), expand, expand_bias).sigmoid_()


def gate_gradients(
    gate_grad: Tensor, means: Tensor, squeezed: Tensor, gate: Tensor, reduce: Tensor, expand: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The gradients of the means, N x C, and of `gate_of`'s weights and biases, in their order. Changes `gate_grad`."""
    gate_grad *= gate * (1 - gate)
    with torch.autocast(means.device.type, enabled=False):
        squeezed_grad = torch.ops.aten.silu_backward(gate_grad @ expand, squeezed)
        reduce_grad, expand_grad = squeezed_grad.T @ means, gate_grad.T @ F.silu(squeezed)
        return squeezed_grad @ reduce, (reduce_grad, squeezed_grad.sum(0), expand_grad, gate_grad.sum(0))


def _photos_rows_channels(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[2] * x.shape[3], x.shape[1]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]) -> Tensor:
    """Depthwise convolution of N x C x H x W that the kernels support: C a multiple of BLOCK, kernel 3 or 5, stride 1 or 2."""
    return cast(Tensor, _Depthwise.apply(x, weight, bias, stride, padding))


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.biased = stride, padding, bias is not None
        bias = bias if bias is None else bias.to(x.dtype)
        return F.conv2d(x, weight.to(x.dtype), bias, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        channels, kernel = len(weight), weight.shape[-1]
        weights = weight.reshape(channels, -1).T.float().contiguous()
        x_grad, weights_grad = torch.empty_like(x), torch.empty_like(weights)
        sizes = (len(x), *x.shape[2:], *grad.shape[2:], channels, kernel, ctx.stride, *ctx.padding)
        call("depthwise_grad", x, grad, weights, x_grad, weights_grad, *sizes, torch.get_num_threads())
        bias_grad = grad.sum((0, 2, 3), dtype=torch.float32) if ctx.biased else None
        return x_grad, weights_grad.T.reshape(weight.shape), bias_grad, None, None
