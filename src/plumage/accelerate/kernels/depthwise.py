"""Kernels of a depthwise convolution in a training step (depthwise.c), on N x C x H x W maps in float32 or bfloat16.

- Alone: torch's backward pass takes tens of times as long in bfloat16.
- With the batch norm and activation before it, whose map is not kept for backward.
- With the pointwise convolution before these, too: of both maps, only the rows that are needed are in memory.
"""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plumage.accelerate.kernels import Activation
from plumage.accelerate.kernels.dispatch import call
from plumage.accelerate.kernels.training import NONE, NormAct, batch_norm, norm_parameters


class Geometry(NamedTuple):
    """How a depthwise convolution maps: zeros above and to the left of its input, and its output's height and width.

    Below and to the right there are as many zeros as it takes."""

    stride: int
    padding: tuple[int, int]
    size: tuple[int, int]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]) -> Tensor:
    """Depthwise convolution of N x C x H x W that the kernels support: C a multiple of BLOCK, kernel 3 or 5, stride 1 or 2."""
    return cast(Tensor, _Depthwise.apply(x, weight, bias, stride, padding))


def norm_act_depthwise(
    x: Tensor, norm: nn.BatchNorm2d, activation: Activation, weight: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """The depthwise convolution of `norm_act`, C x 1 x K x K weights: C a multiple of BLOCK, K 3 or 5, stride 1 or 2.

    Also the mean and variance of its channels, 2 x C in float64."""
    return cast(tuple[Tensor, Tensor], _NormActDepthwise.apply(x, *norm_parameters(norm, activation), weight, geometry))


def expand_depthwise(
    x: Tensor, expand: Tensor, norm: nn.BatchNorm2d, activation: Activation, weight: Tensor, geometry: Geometry
) -> tuple[Tensor, Tensor]:
    """`norm_act_depthwise` of the pointwise convolution of `x` with C x I weights."""
    layers = *norm_parameters(norm, activation), weight, geometry
    return cast(tuple[Tensor, Tensor], _ExpandDepthwise.apply(x, expand, *layers))


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
        unchanged = torch.tensor([[1.0], [0.0], [0.0], [1.0]]).repeat(1, len(weight))
        geometry = Geometry(ctx.stride, ctx.padding, (grad.shape[2], grad.shape[3]))
        x_grad, weight_grad = _depthwise_gradients(grad, x, weight, unchanged, NONE, geometry, None)
        bias_grad = grad.sum((0, 2, 3), dtype=torch.float32) if ctx.biased else None
        return x_grad, weight_grad, bias_grad, None, None


class _NormActDepthwise(torch.autograd.Function):
    """Only x is kept for backward: rows of its activation are computed again as they are needed."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: NormAct, taps: Tensor, geometry: Geometry
    ) -> tuple[Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        norm = batch_norm(x, len(taps), weight, bias, layer, None)
        y, moments = _outputs(x, taps, geometry)
        sizes = _depthwise_sizes(x, taps, geometry)
        call("norm_act_depthwise", x, y, moments, _by_tap(taps), norm, layer.act, *sizes)
        ctx.save_for_backward(x, taps, norm)
        ctx.act, ctx.geometry = layer.act, geometry
        ctx.mark_non_differentiable(moments)
        return y, moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        x, taps, norm = ctx.saved_tensors
        norm_grads = torch.empty(2, len(taps))
        x_grad, taps_grad = _depthwise_gradients(grad, x, taps, norm, ctx.act, ctx.geometry, norm_grads)
        return x_grad, *norm_grads, None, taps_grad, None


class _ExpandDepthwise(torch.autograd.Function):
    """The expanded map, z = x @ expand.T, is never in memory as a whole: its rows are computed as they are needed.

    Its mean and variance follow from x's mean and covariance. Of the gradient g before the activation, its sum and
    p = sum of g x (x - mean) give all others, since sum of g * (z - mean) is the sum of p * expand over I."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, expand: Tensor, weight: Tensor, bias: Tensor, layer: NormAct, taps: Tensor,
        geometry: Geometry,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        x = x.contiguous(memory_format=torch.channels_last)
        x_mean, covariance = _covariance(x)
        exact = expand.double()
        expanded = torch.stack((exact @ x_mean, ((exact @ covariance) * exact).sum(1)))
        norm = batch_norm(x, len(taps), weight, bias, layer, expanded)
        y, moments = _outputs(x, taps, geometry)
        folded, shift = (expand * norm[0, :, None]).T.float().contiguous(), bias.detach().float()
        sizes = _depthwise_sizes(x, taps, geometry)
        call(
            "expand_depthwise", x, y, moments, _by_tap(taps), folded, x_mean.float(), shift, layer.act, x.shape[1], *sizes,
        )  # fmt: skip
        ctx.save_for_backward(x, expand, bias, taps, folded, x_mean, covariance, norm)
        ctx.act, ctx.geometry = layer.act, geometry
        ctx.mark_non_differentiable(moments)
        return y, moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        x, expand, bias, taps, folded, x_mean, covariance, norm = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        channels, inputs = expand.shape
        rows = x.numel() // inputs
        back = folded.T.contiguous()
        by_tap = _by_tap(taps)
        x_grad, taps_grad, products = torch.empty_like(x), torch.empty_like(by_tap), torch.empty(channels, inputs)
        sums, threads = torch.empty(2, channels, dtype=torch.float64), torch.get_num_threads()
        sizes, (scale, _, _, inv_std) = _depthwise_sizes(x, taps, ctx.geometry), norm.double()
        call(
            "expand_depthwise_grad", x, grad, x_grad, by_tap, folded, x_mean.float(), bias.float(), back, ctx.act,
            taps_grad, products, sums, inputs, *sizes,
        )  # fmt: skip
        exact, products = expand.double(), products.double()
        total, product = sums[0], (exact * products).sum(1)
        spread = (scale * inv_std.square() * product / rows)[:, None] * exact
        matrix = -exact.T @ spread
        offset = -(scale * total / rows) @ exact - x_mean @ matrix
        expand_grad = scale[:, None] * products - spread @ covariance * rows
        matrix, offset = matrix.float().contiguous(), offset.float()
        call("add_pointwise", x, x_grad, rows, inputs, matrix, offset, threads)
        norm_grads = (product * inv_std).float(), total.float()
        return x_grad, expand_grad.float(), *norm_grads, None, taps_grad.T.reshape(taps.shape), None


def _covariance(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and covariance of channels_last `x`'s channels, in float64."""
    channels = x.shape[1]
    rows = x.numel() // channels
    pivot = x[0, :, 0, 0].float().contiguous()
    sums, products = torch.empty(channels, dtype=torch.float64), torch.empty(channels, channels, dtype=torch.float64)
    call("channel_products", x, rows, channels, pivot, sums, products, torch.get_num_threads())
    offset = sums / rows
    return pivot + offset, products / rows - torch.outer(offset, offset)


def _depthwise_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, norm: Tensor, act: int, geometry: Geometry, norm_grads: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The gradients of x and of the weights, and in `norm_grads` those of the norm; without it, that before the activation in place of
    x's."""
    grad = grad.contiguous(memory_format=torch.channels_last)
    taps = _by_tap(weight)
    x_grad, taps_grad = torch.empty_like(x), torch.empty_like(taps)
    sizes = _depthwise_sizes(x, weight, geometry)
    call("norm_act_depthwise_grad", x, grad, x_grad, taps, norm, act, taps_grad, norm_grads, *sizes)
    return x_grad, taps_grad.T.reshape(weight.shape)


def _by_tap(weight: Tensor) -> Tensor:
    """C x 1 x K x K weights as K * K x C."""
    return weight.reshape(len(weight), -1).T.float().contiguous()


def _outputs(x: Tensor, weight: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """A depthwise convolution's output and its moments, not yet computed."""
    channels = len(weight)
    y = torch.empty(len(x), channels, *geometry.size, dtype=x.dtype, memory_format=torch.channels_last)
    return y, torch.empty(2, channels, dtype=torch.float64)


def _depthwise_sizes(x: Tensor, weight: Tensor, geometry: Geometry) -> tuple[int, ...]:
    """The last arguments of a depthwise kernel."""
    (stride, padding, size), channels, kernel = geometry, len(weight), weight.shape[-1]
    return len(x), *x.shape[2:], *size, channels, kernel, stride, *padding, torch.get_num_threads()
