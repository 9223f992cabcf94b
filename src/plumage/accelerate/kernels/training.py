"""What a training step does over maps, N x C x H x W, float32 or bfloat16, all else in float32 (training.c).

- Batch norm with its activation: a pass for the statistics and one for the result, two backward, and one map kept, not two.
- Squeeze-and-excitation: one pass forward and two backward, not ten.
- The backward pass of a depthwise convolution, which in bfloat16 torch computes tens of times slower than it could be.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plumage.accelerate.kernels import ACTIVATIONS, call


def norm_act(x: Tensor, norm: nn.BatchNorm2d, activation: str) -> Tensor:
    """`activation` of `norm` of `x`, N x C x H x W that `fits`, in training; the running statistics take `x` in.

    `activation` is "silu", "relu6" or "none".
    """
    y, mean, variance = _NormAct.apply(x, norm.weight, norm.bias, norm.eps, ACTIVATIONS[activation])
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum or 0.0)
        norm.running_var.lerp_(variance * (count / max(1, count - 1)), norm.momentum or 0.0)
    result: Tensor = y
    return result


class _NormAct(torch.autograd.Function):
    """Ioffe & Szegedy 2015 (arXiv 1502.03167), the activation after it; what is before the activation is made again backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, act: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        channels, threads = x.shape[1], torch.get_num_threads()
        rows = x.numel() // channels
        near = x[0, :, 0, 0].float().contiguous()  # differences from it lose no digits where the mean is large
        sums = torch.empty(2, channels, dtype=torch.float64)
        call("channel_sums", None, x, rows, channels, None, None, near, 0, sums, threads)
        offset = sums[0] / rows
        mean, variance = near + offset, (sums[1] / rows - offset.square()).clamp(min=0)
        inverse = (variance + eps).rsqrt()
        scale, shift = (weight * inverse).float(), (bias - mean * weight * inverse).float()
        y = torch.empty_like(x)
        call("norm_act", x, y, rows, channels, scale, shift, act, threads)
        mean, variance = mean.float(), variance.float()
        ctx.save_for_backward(x, scale, shift, mean, inverse)
        ctx.act = act
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, scale, shift, mean, inverse = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        channels, threads = x.shape[1], torch.get_num_threads()
        rows = x.numel() // channels
        sums = torch.empty(2, channels, dtype=torch.float64)
        call("channel_sums", grad, x, rows, channels, scale, shift, mean, ctx.act, sums, threads)
        slant = -scale * inverse.square() * sums[1] / rows
        offset = (-scale * sums[0] / rows - slant * mean).float()
        x_grad = torch.empty_like(x)
        call("norm_act_grad", grad, x, x_grad, rows, channels, scale, shift, slant.float(), offset, ctx.act, threads)
        return x_grad, (sums[1] * inverse).float(), sums[0].float(), None, None


def excite(x: Tensor, reduce: nn.Conv2d, expand: nn.Conv2d) -> Tensor:
    """Squeeze-and-excitation of N x C x H x W that `fits` (Hu et al. 2018, arXiv 1709.01507)."""
    weights = (reduce.weight.flatten(1), reduce.bias, expand.weight.flatten(1), expand.bias)
    result: Tensor = _Excite.apply(x, *weights)
    return result


class _Excite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, into: Tensor, into_bias: Tensor, out: Tensor, out_bias: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        means = x.mean((2, 3), dtype=torch.float32)
        with torch.autocast("cpu", enabled=False):
            squeezed = F.linear(means, into, into_bias)
            gate = F.linear(F.silu(squeezed), out, out_bias).sigmoid_()
        ctx.save_for_backward(x, means, squeezed, gate, into, out)
        y = torch.empty_like(x)
        call("excite", x, y, *_photos_rows_channels(x), gate, torch.zeros_like(gate), torch.get_num_threads())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, means, squeezed, gate, into, out = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        photos, rows, channels = _photos_rows_channels(x)
        out_grad, x_grad = torch.empty_like(gate), torch.empty_like(x)
        call("excite_sums", x, grad, photos, rows, channels, out_grad, torch.get_num_threads())
        out_grad *= gate * (1 - gate)
        with torch.autocast("cpu", enabled=False):
            squeezed_grad = torch.ops.aten.silu_backward(out_grad @ out, squeezed)
            offset = (squeezed_grad @ into).div_(rows)
            into_grad, out_weight_grad = squeezed_grad.T @ means, out_grad.T @ F.silu(squeezed)
        call("excite", grad, x_grad, photos, rows, channels, gate, offset, torch.get_num_threads())
        return x_grad, into_grad, squeezed_grad.sum(0), out_weight_grad, out_grad.sum(0)


def _photos_rows_channels(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[2] * x.shape[3], x.shape[1]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]) -> Tensor:
    """A depthwise convolution of N x C x H x W that `fits`, C a multiple of BLOCK, kernel 3 or 5, stride 1 or 2."""
    result: Tensor = _Depthwise.apply(x, weight, bias, stride, padding)
    return result


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
        taps = weight.reshape(channels, -1).T.float().contiguous()
        x_grad, taps_grad = torch.empty_like(x), torch.empty_like(taps)
        call(
            "depthwise_grad", x, grad, taps, x_grad, taps_grad, len(x), *x.shape[2:], *grad.shape[2:], channels, kernel,
            ctx.stride, *ctx.padding, torch.get_num_threads(),
        )  # fmt: skip
        bias_grad = grad.sum((0, 2, 3), dtype=torch.float32) if ctx.biased else None
        return x_grad, taps_grad.T.reshape(weight.shape), bias_grad, None, None
