"""Squeeze-and-excitation in a training step (excite.c), on N x C x H x W maps in float32 or bfloat16; all else is float32.

- With the batch norm and activation before it, whose map is not kept for backward.
- With the pointwise convolution after it, too: of the maps between them, only the rows that are needed are in memory.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plumage.accelerate.kernels import Activation
from plumage.accelerate.kernels.dispatch import call
from plumage.accelerate.kernels.training import NormAct, batch_norm, norm_parameters, photos_rows_channels


def norm_act_excite(
    x: Tensor, norm: nn.BatchNorm2d, activation: Activation, reduce: nn.Conv2d, expand: nn.Conv2d,
    moments: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Squeeze-and-excitation of `norm_act`."""
    layers = *norm_parameters(norm, activation), moments, *_excite_weights(reduce, expand)
    return cast(Tensor, _NormActExcite.apply(x, *layers))


def norm_act_excite_project(
    x: Tensor, norm: nn.BatchNorm2d, activation: Activation, reduce: nn.Conv2d, expand: nn.Conv2d, project: Tensor,
    moments: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The pointwise convolution of `norm_act_excite`, O x C weights: C a multiple of BLOCK."""
    layers = *norm_parameters(norm, activation), moments, *_excite_weights(reduce, expand), project
    return cast(Tensor, _NormActExciteProject.apply(x, *layers))


def excite(x: Tensor, reduce: nn.Conv2d, expand: nn.Conv2d) -> Tensor:
    """Squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507) of N x C x H x W that the kernels support."""
    return cast(Tensor, _Excite.apply(x, *_excite_weights(reduce, expand)))


def _excite_weights(reduce: nn.Conv2d, expand: nn.Conv2d) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    return reduce.weight.flatten(1), reduce.bias, expand.weight.flatten(1), expand.bias


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
        call("excite", x, y, *photos_rows_channels(x), gate, torch.zeros_like(gate), torch.get_num_threads())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, means, squeezed, gate, reduce, expand = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        photos, rows, channels = photos_rows_channels(x)
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
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        layer: NormAct,
        moments: Tensor | None,
        *excite_weights: Tensor,
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        photos, rows, channels = photos_rows_channels(x)
        norm = batch_norm(x, channels, weight, bias, layer, moments)
        y, means, threads = torch.empty_like(x), torch.empty(photos, channels), torch.get_num_threads()
        call("norm_act_sums", x, y, photos, rows, channels, norm, layer.act, means, threads)
        squeezed, gate = gate_of(means.div_(rows), *excite_weights)
        call("excite", y, y, photos, rows, channels, gate, torch.zeros_like(gate), threads)
        ctx.save_for_backward(x, norm, means, squeezed, gate, excite_weights[0], excite_weights[2])
        ctx.act = layer.act
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, means, squeezed, gate, reduce, expand = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        sizes = photos, rows, channels = photos_rows_channels(x)
        sums, threads = torch.empty(5, photos, channels), torch.get_num_threads()
        call("norm_act_excite_sums", x, grad, *sizes, norm, ctx.act, sums, threads)
        means_grad, weight_grads = gate_gradients(sums[0], means, squeezed, gate, reduce, expand)
        offset, x_grad, norm_grads = means_grad.div_(rows), torch.empty_like(x), torch.empty(2, channels)
        call(
            "norm_act_excite_grad", grad, x, x_grad, *sizes, gate, offset, norm, sums[1:], ctx.act, norm_grads, threads
        )
        return x_grad, *norm_grads, None, None, *weight_grads


class _NormActExciteProject(torch.autograd.Function):
    """Only x is kept for backward, and no other map is in memory as a whole: its rows are computed as they are needed."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: NormAct, moments: Tensor | None, *weights: Tensor
    ) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        *excite_weights, project = weights
        photos, rows, channels = photos_rows_channels(x)
        norm = batch_norm(x, channels, weight, bias, layer, moments)
        means, threads = torch.empty(photos, channels), torch.get_num_threads()
        call("norm_act_sums", x, None, photos, rows, channels, norm, layer.act, means, threads)
        squeezed, gate = gate_of(means.div_(rows), *excite_weights)
        y = torch.empty(photos, len(project), *x.shape[2:], dtype=x.dtype, memory_format=torch.channels_last)
        sizes, columns = (photos, rows, channels, len(project)), project.T.float().contiguous()
        call("norm_act_project", x, y, *sizes, norm, layer.act, gate, columns, threads)
        ctx.save_for_backward(x, norm, means, squeezed, gate, excite_weights[0], excite_weights[2], project)
        ctx.act = layer.act
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, means, squeezed, gate, reduce, expand, project = ctx.saved_tensors
        grad, project = grad.contiguous(memory_format=torch.channels_last), project.float().contiguous()
        sizes = photos, rows, channels, outputs = *photos_rows_channels(x), len(project)
        sums, products = torch.empty(4, photos, channels), torch.empty(photos, channels, outputs)
        threads = torch.get_num_threads()
        call("norm_act_project_sums", x, grad, *sizes, norm, ctx.act, project, sums, products, threads)
        gate_grad = torch.einsum("pco,oc->pc", products, project)
        means_grad, weight_grads = gate_gradients(gate_grad, means, squeezed, gate, reduce, expand)
        offset, x_grad, norm_grads = means_grad.div_(rows), torch.empty_like(x), torch.empty(2, channels)
        call(
            "norm_act_project_grad", grad, x, x_grad, *sizes, project, gate, offset, norm, sums, ctx.act, norm_grads,
            threads,
        )  # fmt: skip
        project_grad = torch.einsum("pco,pc->oc", products, gate)
        return x_grad, *norm_grads, None, None, *weight_grads, project_grad


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
    """The gradients of the means, N x C, and of `gate_of`'s weights and biases, in their order."""
    gate_grad = torch.ops.aten.sigmoid_backward(gate_grad, gate)
    with torch.autocast(means.device.type, enabled=False):
        squeezed_grad = torch.ops.aten.silu_backward(gate_grad @ expand, squeezed)
        reduce_grad, expand_grad = squeezed_grad.T @ means, gate_grad.T @ F.silu(squeezed)
        return squeezed_grad @ reduce, (reduce_grad, squeezed_grad.sum(0), expand_grad, gate_grad.sum(0))
