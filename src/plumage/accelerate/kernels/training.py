"""Kernels of a training step (training.c), on N x C x H x W maps in float32 or bfloat16; everything else is float32.

- Batch norm with its activation: two passes forward and two backward, and one map kept for backward where torch keeps two.
- Both with squeeze-and-excitation, which needs no pass of its own over their map, and it is not kept for backward.

Those of a depthwise convolution are in kernels.depthwise.
"""

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
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


def norm_act_excite(
    x: Tensor, norm: nn.BatchNorm2d, activation: Activation, reduce: nn.Conv2d, expand: nn.Conv2d
) -> Tensor:
    """Squeeze-and-excitation of `norm_act`."""
    return updated(
        x, norm, _NormActExcite.apply(x, *norm_parameters(norm, activation), *_excite_weights(reduce, expand))
    )


def excite(x: Tensor, reduce: nn.Conv2d, expand: nn.Conv2d) -> Tensor:
    """Squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507) of N x C x H x W that the kernels support."""
    return cast(Tensor, _Excite.apply(x, *_excite_weights(reduce, expand)))


def norm_parameters(norm: nn.BatchNorm2d, activation: Activation) -> tuple[Tensor, Tensor, float, int]:
    return norm.weight, norm.bias, norm.eps, ACTIVATIONS[activation]


def _excite_weights(reduce: nn.Conv2d, expand: nn.Conv2d) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    return reduce.weight.flatten(1), reduce.bias, expand.weight.flatten(1), expand.bias


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
    scale, shift, mean, inv_std = norm
    channels = x.shape[1]
    rows = x.numel() // channels
    x_scale = -scale * inv_std.square() * sums[1] / rows
    offset = (-scale * sums[0] / rows - x_scale * mean).float()
    x_grad = torch.empty_like(x) if into is None else into
    sizes = _photos_rows_channels(x) if gates else (1, rows, channels)
    gate, more = gates or (torch.ones(channels), torch.zeros(channels))
    call(
        "norm_act_grad",
        grad,
        x,
        x_grad,
        *sizes,
        gate,
        more,
        scale,
        shift,
        x_scale.float(),
        offset,
        act,
        torch.get_num_threads(),
    )
    return x_grad, (sums[1] * inv_std).float(), sums[0].float()


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


class _NormActExcite(torch.autograd.Function):
    """Only x is kept for backward. The gradient before the activation is (grad * gate + offset) * slope: five sums over each photo's
    rows give the gate's gradient, from it the offset, and from both the sums that batch norm needs, in one pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, act: int, *excite_weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = x.contiguous(memory_format=torch.channels_last)
        norm, variance = statistics(x, weight, bias, eps)
        photos, rows, channels = _photos_rows_channels(x)
        y, means, threads = torch.empty_like(x), torch.empty(photos, channels), torch.get_num_threads()
        call("norm_act_sums", x, y, photos, rows, channels, norm.scale, norm.shift, act, means, threads)
        squeezed, gate = gate_of(means.div_(rows), *excite_weights)
        call("excite", y, y, photos, rows, channels, gate, torch.zeros_like(gate), threads)
        ctx.save_for_backward(x, *norm, means, squeezed, gate, excite_weights[0], excite_weights[2])
        ctx.act = act
        ctx.mark_non_differentiable(norm.mean, variance)
        return y, norm.mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, scale, shift, mean, inv_std, means, squeezed, gate, reduce, expand = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        photos, rows, channels = _photos_rows_channels(x)
        sums, threads = torch.empty(5, photos, channels), torch.get_num_threads()
        call("norm_act_excite_sums", x, grad, photos, rows, channels, scale, shift, mean, ctx.act, sums, threads)
        gate_grad, slopes, grads, slope_products, products = sums
        means_grad, weight_grads = gate_gradients(gate_grad, means, squeezed, gate, reduce, expand)
        offset, factor = means_grad.div_(rows), gate.double()
        totals = torch.stack(
            [(factor * grads + offset * slopes).sum(0), (factor * products + offset * slope_products).sum(0)]
        )
        norm = Statistics(scale, shift, mean, inv_std)
        return *norm_gradients(grad, x, norm, totals, ctx.act, (gate, offset)), None, None, *weight_grads


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
