"""An EfficientNet block, and the head, in one C call each for inference (inference.c): float32, maps in between stay in the cache."""

import ctypes
from typing import Any

import torch
from torch import Tensor

from plumage.accelerate.kernels import ACTIVATIONS, BLOCK, Activation, call

_SIZES = (
    "photos", "height", "width", "channels", "wide", "out_height", "out_width", "out_channels", "kernel", "stride", "pad_height",
    "pad_width", "squeezed",
)  # fmt: skip
_SWITCHES = ("input_act", "act", "skips", "threads")
_WEIGHTS = (
    "expand", "input_bias", "depthwise", "depthwise_bias", "reduce", "reduce_bias", "excite", "excite_bias", "project", "project_bias",
)  # fmt: skip


class _Block(ctypes.Structure):
    """The `Block` of inference.c."""

    _fields_ = [
        *((name, ctypes.c_long) for name in _SIZES),
        *((name, ctypes.c_int) for name in _SWITCHES),
        *((name, ctypes.c_void_p) for name in _WEIGHTS),
    ]


class MBConvKernel:
    """An inverted bottleneck with batch norms folded into its weights: float32 N x C x H x W to N x out x H' x W'.

    With `wide` the depthwise convolution's channels, a multiple of BLOCK, the weights are:
    - expand: wide x C; None if the block does not expand, so that wide is C.
    - input_bias: wide; added to the expansion, or to the block's input if there is none; `input_act` follows.
    - depthwise: wide x 1 x kernel x kernel, with kernel 3 or 5 and `stride` 1 or 2; `depthwise_act` follows its bias.
    - excite: squeeze-and-excitation's weight (squeezed x wide), bias, weight (wide x squeezed), bias; empty if none.
    - project: out x wide. If the block `skips`, its input is added to its output.
    """

    def __init__(
        self, *, expand: Tensor | None, input_bias: Tensor, input_act: Activation, depthwise: Tensor, depthwise_bias: Tensor,
        depthwise_act: Activation, excite: list[Tensor], project: Tensor, project_bias: Tensor, stride: int, skips: bool,
    ) -> None:  # fmt: skip
        reduce, reduce_bias, widen, excite_bias = excite or [torch.empty(0, 0)] * 4
        self._weights = {
            "expand": None if expand is None else in_blocks(expand),
            "input_bias": in_blocks(input_bias[:, None]),
            "depthwise": depthwise.reshape(-1, BLOCK, *depthwise.shape[2:]).permute(0, 2, 3, 1),
            "depthwise_bias": depthwise_bias,
            "reduce": reduce,
            "reduce_bias": reduce_bias,
            "excite": widen.T,
            "excite_bias": excite_bias,
            "project": in_blocks(project),
            "project_bias": in_blocks(project_bias[:, None]),
        }
        for name, value in self._weights.items():
            self._weights[name] = value if value is None else value.detach().float().contiguous()
        self._fixed: dict[str, Any] = {
            "wide": len(depthwise), "out_channels": len(project), "kernel": depthwise.shape[-1], "stride": stride, "skips": skips,
            "squeezed": len(reduce), "input_act": ACTIVATIONS[input_act], "act": ACTIVATIONS[depthwise_act],
            **{name: value if value is None else value.data_ptr() for name, value in self._weights.items()},
        }  # fmt: skip

    def __call__(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        """`padding` is the depthwise convolution's, on top and to the left."""
        x = x.contiguous(memory_format=torch.channels_last)
        photos, channels, height, width = x.shape
        fixed = self._fixed
        out_height, out_width = (-(-size // fixed["stride"]) for size in (height, width))
        between = torch.empty((photos, out_height, out_width, fixed["wide"]) if fixed["squeezed"] else 0)
        y = torch.empty(photos, fixed["out_channels"], out_height, out_width, memory_format=torch.channels_last)
        block = _Block(
            photos=photos, height=height, width=width, channels=channels, out_height=out_height, out_width=out_width,
            pad_height=padding[0], pad_width=padding[1], threads=torch.get_num_threads(), **fixed,
        )  # fmt: skip
        call("mbconv", ctypes.byref(block), x, between, y)
        return y


def in_blocks(weight: Tensor) -> Tensor:
    """An out x in matrix in inference.c's order, out / BLOCK (rounded up) x in x BLOCK, filled up with zeros."""
    outputs, inputs = weight.shape
    filled = weight.new_zeros(-(-outputs // BLOCK) * BLOCK, inputs)
    filled[:outputs] = weight.detach()
    return filled.view(-1, BLOCK, inputs).transpose(1, 2).float().contiguous()


def pooled(x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
    """A pointwise convolution of N x C x H x W, activated, then averaged over H x W: N x out, a multiple of BLOCK.

    `weight` is `in_blocks`, and `bias` has out values.
    """
    x, (photos, channels, height, width) = x.contiguous(memory_format=torch.channels_last), x.shape
    means, act, threads = torch.empty(photos, len(bias)), ACTIVATIONS[activation], torch.get_num_threads()
    call("pooled", x, means, weight, bias, photos, height * width, channels, len(bias), act, threads)
    return means
