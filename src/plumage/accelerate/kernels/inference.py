"""A block of an EfficientNet in evaluation at once, and its head (inference.c): float32, what is in between stays in the cache."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from plumage.accelerate.kernels import ACTIVATIONS, BLOCK, call

_SIZES = (
    "photos", "height", "width", "channels", "wide", "out_height", "out_width", "out_channels", "kernel", "stride", "pad_height",
    "pad_width", "squeezed",
)  # fmt: skip
_SWITCHES = ("before", "act", "skips", "threads")
_WEIGHTS = (
    "expand", "offset_before", "taps", "offset", "reduce", "reduce_bias", "excite", "excite_bias", "project", "project_offset",
)  # fmt: skip


class _Block(ctypes.Structure):
    """As in inference.c."""

    _fields_ = [
        *((name, ctypes.c_long) for name in _SIZES),
        *((name, ctypes.c_int) for name in _SWITCHES),
        *((name, ctypes.c_void_p) for name in _WEIGHTS),
    ]


class MBConvKernel:
    """An inverted bottleneck with the weights given, all float32: N x C x H x W to N x out x H' x W'.

    `expand` (wide x C, or None) and `project` (out x wide) are matrices, `taps` the depthwise convolution's weight, wide x 1 x kernel x
    kernel, wide a multiple of BLOCK; batch norms are in them and in the offsets. `before` is the activation that ends the expansion,
    or what came before the block, and `excite` squeeze-and-excitation's weights and biases, or empty.
    """

    def __init__(
        self, expand: Tensor | None, offset_before: Tensor, before: str, taps: Tensor, offset: Tensor, activation: str,
        excite: list[Tensor], project: Tensor, project_offset: Tensor, stride: int, skips: bool,
    ) -> None:  # fmt: skip
        reduce, reduce_bias, widen, excite_bias = excite or [torch.empty(0, 0)] * 4
        self._weights = {
            "expand": None if expand is None else in_blocks(expand),
            "offset_before": in_blocks(offset_before[:, None]),
            "taps": taps.reshape(-1, BLOCK, *taps.shape[2:]).permute(0, 2, 3, 1),
            "offset": offset,
            "reduce": reduce,
            "reduce_bias": reduce_bias,
            "excite": widen.T,
            "excite_bias": excite_bias,
            "project": in_blocks(project),
            "project_offset": in_blocks(project_offset[:, None]),
        }
        for name, value in self._weights.items():
            self._weights[name] = value if value is None else value.detach().float().contiguous()
        self._fixed: dict[str, Any] = {
            "wide": len(taps), "out_channels": len(project), "kernel": taps.shape[-1], "stride": stride, "skips": skips,
            "squeezed": len(reduce), "before": ACTIVATIONS[before], "act": ACTIVATIONS[activation],
            **{name: value if value is None else value.data_ptr() for name, value in self._weights.items()},
        }  # fmt: skip

    def __call__(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        """`padding` is the depthwise convolution's on top and to the left."""
        x = x.contiguous(memory_format=torch.channels_last)
        photos, channels, height, width = x.shape
        fixed = self._fixed
        down, across = (-(-size // fixed["stride"]) for size in (height, width))
        between = torch.empty((photos, down, across, fixed["wide"]) if fixed["squeezed"] else 0)
        y = torch.empty(photos, fixed["out_channels"], down, across, memory_format=torch.channels_last)
        block = _Block(
            photos=photos, height=height, width=width, channels=channels, out_height=down, out_width=across,
            pad_height=padding[0], pad_width=padding[1], threads=torch.get_num_threads(), **fixed,
        )  # fmt: skip
        call("mbconv", block, x, between, y)
        return y


def in_blocks(weight: Tensor) -> Tensor:
    """A matrix, out x in, as inference.c takes it: out / BLOCK (rounded up) x in x BLOCK, what is too much zero."""
    outputs, inputs = weight.shape
    filled = weight.new_zeros(-(-outputs // BLOCK) * BLOCK, inputs)
    filled[:outputs] = weight.detach()
    return filled.view(-1, BLOCK, inputs).transpose(1, 2).float().contiguous()


def pooled(x: Tensor, weight: Tensor, offset: Tensor, activation: str) -> Tensor:
    """The means, N x width, of the activated pointwise convolution of N x C x H x W, of `weight` `in_blocks` and of `offset`, both of
    a width that is a multiple of BLOCK."""
    x = x.contiguous(memory_format=torch.channels_last)
    means = torch.empty(len(x), len(offset))
    call(
        "pooled", x, means, weight, offset, len(x), x.shape[2] * x.shape[3], x.shape[1], len(offset), ACTIVATIONS[activation],
        torch.get_num_threads(),
    )  # fmt: skip
    return means
