"""Loops of training and inference on a CPU in C (kernels.c), where torch makes more passes over memory, which is what limits them.

- Photos' random crops, resampled; their bytes to normalised floats: one pass, not three.
- Batch norm with its activation: a pass for the statistics and one for the result, two backward, and one map kept, not two.
- Squeeze-and-excitation: one pass forward and two backward, not ten.
- The backward pass of a depthwise convolution, which in bfloat16 torch computes tens of times slower than it could be.
- Inference's depthwise convolution, with the activations before and after it and the sums that squeeze-and-excitation wants.

Maps are float32 or bfloat16, all else is float32. The C is compiled for the processor at hand the first time, in a second or two,
and kept in the user's cache. Where no compiler is, or a tensor is not on a CPU, torch's operations do the same.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = (
    "-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC",
)  # fmt: skip
BLOCK = 16
"""The channels of a depthwise convolution are a multiple of it, as in kernels.c."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_ACTIVATIONS = {"none": 0, "silu": 1, "relu6": 2}


class _MAP(ctypes.c_void_p):
    """To elements of the C's dtype; to anything else is a plain pointer."""


_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
_OTHERS = (torch.float32, torch.float64, torch.uint8)
"""What other pointers point to, each function's to its own."""
_ARGUMENTS: dict[str, list[type]] = {
    "norm_act": [_MAP] * 2 + [_LONG] * 2 + [_POINTER] * 2 + [_INT] * 2,
    "channel_sums": [_MAP] * 2 + [_LONG] * 2 + [_POINTER] * 3 + [_INT, _POINTER, _INT],
    "norm_act_grad": [_MAP] * 3 + [_LONG] * 2 + [_POINTER] * 4 + [_INT] * 2,
    "normalise": [_POINTER, _MAP] + [_LONG] * 2 + [_POINTER] * 2 + [_INT],
    "resample": [_POINTER] + [_LONG] * 3 + [_POINTER, _LONG] + [_INT] * 2,
    "excite": [_MAP] * 2 + [_LONG] * 3 + [_POINTER] * 2 + [_INT],
    "excite_sums": [_MAP] * 2 + [_LONG] * 3 + [_POINTER, _INT],
    "depthwise_act": [_MAP] * 2 + [_POINTER] * 4 + [_LONG] * 10 + [_INT] * 3,
    "depthwise_grad": [_MAP] * 2 + [_POINTER, _MAP, _POINTER] + [_LONG] * 10 + [_INT],
}


def keep_memory() -> None:
    """Have this process keep the memory that it frees: each step takes the same again, and the system would clear it first."""
    if platform.system() == "Linux":
        with suppress(AttributeError):  # a C library without it
            libc = ctypes.CDLL(None)
            libc.mallopt(_MMAP_THRESHOLD, 2**30)
            libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


@functools.cache
def compiled(dtype: torch.dtype = torch.float32) -> ctypes.CDLL | None:
    """The compiled C for maps of `dtype`, float32 or bfloat16; None where it can't be had."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler or platform.system() != "Linux":  # elsewhere torch brings an OpenMP that is not the compiler's
        return None
    try:
        flags = [*FLAGS, *(["-DBF16"] if dtype == torch.bfloat16 else [])]
        made_for = "\n".join([compiler, *flags, platform.machine(), _processor()])
        name = f"kernels-{hashlib.sha256(SOURCE.read_bytes() + made_for.encode()).hexdigest()[:16]}.so"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plumage"
        if not (cache / name).exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as beside:  # several processes may be at it
                made = Path(beside) / name
                subprocess.run([compiler, *flags, str(SOURCE), "-o", str(made), "-lm"], check=True, capture_output=True)
                made.replace(cache / name)
        loaded = ctypes.CDLL(str(cache / name))
    except (OSError, RuntimeError, subprocess.CalledProcessError):  # RuntimeError: there is no home
        return None
    for function, arguments in _ARGUMENTS.items():
        getattr(loaded, function).argtypes = arguments
        getattr(loaded, function).restype = None
    return loaded


def _processor() -> str:
    """What the compiler may use of this machine: a home folder may be shared by others."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return "\n".join(
        next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags", "Features")
    )


def computes_bf16() -> bool:
    """Whether this processor multiplies bfloat16 as such, in which it then is the faster (else some fifteen times slower)."""
    return compiled(torch.bfloat16) is not None and bool(
        {"avx512_bf16", "amx_bf16", "bf16"} & set(_processor().split())
    )


def fits(x: Tensor) -> bool:
    """Whether the C takes `x`, N x C x H x W, here: on a CPU, float32 (where no autocast would make it bfloat16) or bfloat16."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or x.dtype not in (torch.float32, torch.bfloat16):
        return False
    mixed = x.dtype == torch.float32 and torch.is_autocast_enabled("cpu")
    return not mixed and compiled(x.dtype) is not None


def normalise(photos: Tensor, scale: Tensor, offset: Tensor) -> Tensor | None:
    """uint8 N x H x W x 3 photos on a CPU times `scale` plus `offset`, float32 and one a colour, as float32 of the same shape; None where
    the C can't be had.
    """
    if compiled() is None:
        return None
    photos = photos.contiguous()
    rows, values = photos.shape[0] * photos.shape[1], photos.shape[2] * 3
    y = torch.empty(photos.shape)
    scale, offset = scale.repeat(photos.shape[2]), offset.repeat(photos.shape[2])  # three values are no vector
    _call("normalise", photos, y, rows, values, scale, offset, torch.get_num_threads())
    return y


def resample(
    photo: NDArray[np.uint8], box: tuple[int, int, int, int], size: int, interpolation: str, mirrored: bool
) -> NDArray[np.uint8] | None:
    """The box (left, top, right, bottom) of a photo, H x W x 3, as size x size x 3, as Pillow resamples it ("bilinear" or "bicubic")
    but for its rounding in between; None where the C can't be had.
    """
    loaded = compiled()
    if loaded is None:
        return None
    left, top, right, bottom = box
    assert photo.flags.c_contiguous and 0 <= left < right <= photo.shape[1] and 0 <= top < bottom <= photo.shape[0]
    stride = photo.strides[0]
    y = np.empty((size, size, 3), np.uint8)
    loaded.resample(
        photo.ctypes.data + top * stride + left * 3, stride, bottom - top, right - left, y.ctypes.data, size,
        interpolation == "bicubic", mirrored,
    )  # fmt: skip
    return y


def norm_act(x: Tensor, norm: nn.BatchNorm2d, activation: str) -> Tensor:
    """`activation` of `norm` of `x`, N x C x H x W that `fits`, in training; the running statistics take `x` in.

    `activation` is "silu", "relu6" or "none".
    """
    y, mean, variance = _NormAct.apply(x, norm.weight, norm.bias, norm.eps, _ACTIVATIONS[activation])
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum or 0.0)
        norm.running_var.lerp_(variance * (count / max(1, count - 1)), norm.momentum or 0.0)
    result: Tensor = y
    return result


def depthwise_act(
    x: Tensor,
    offset_before: Tensor,
    before: str,
    taps: Tensor,
    offset: Tensor,
    after: str,
    stride: int,
    padding: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Of `x`, N x C x H x W that `fits`, plus an offset, activated: a depthwise convolution, plus an offset, activated, and its
    means, float32 N x C.

    `padding` is that on top and to the left. `taps` come from `in_blocks`, offsets are float32 C; without gradients.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    photos, channels, height, width = x.shape
    made = [-(-size // stride) for size in (height, width)]
    y = torch.empty(photos, channels, *made, dtype=x.dtype, memory_format=torch.channels_last)
    sums = torch.empty(photos, channels)
    _call(
        "depthwise_act", x, y, offset_before, taps, offset, sums, photos, height, width, *made, channels, taps.shape[1], stride, *padding,
        _ACTIVATIONS[before], _ACTIVATIONS[after], torch.get_num_threads(),
    )  # fmt: skip
    return y, sums.div_(made[0] * made[1])


def in_blocks(weight: Tensor) -> Tensor:
    """A depthwise convolution's weight, C x 1 x kernel x kernel, C a multiple of BLOCK: C / BLOCK x kernel x kernel x BLOCK."""
    return weight.reshape(-1, BLOCK, *weight.shape[2:]).permute(0, 2, 3, 1).float().contiguous()


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
        _call("channel_sums", None, x, rows, channels, None, None, near, 0, sums, threads)
        offset = sums[0] / rows
        mean, variance = near + offset, (sums[1] / rows - offset.square()).clamp(min=0)
        inverse = (variance + eps).rsqrt()
        scale, shift = (weight * inverse).float(), (bias - mean * weight * inverse).float()
        y = torch.empty_like(x)
        _call("norm_act", x, y, rows, channels, scale, shift, act, threads)
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
        _call("channel_sums", grad, x, rows, channels, scale, shift, mean, ctx.act, sums, threads)
        slant = -scale * inverse.square() * sums[1] / rows
        offset = (-scale * sums[0] / rows - slant * mean).float()
        x_grad = torch.empty_like(x)
        _call("norm_act_grad", grad, x, x_grad, rows, channels, scale, shift, slant.float(), offset, ctx.act, threads)
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
        _call("excite", x, y, *_photos_rows_channels(x), gate, torch.zeros_like(gate), torch.get_num_threads())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, means, squeezed, gate, into, out = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        photos, rows, channels = _photos_rows_channels(x)
        out_grad, x_grad = torch.empty_like(gate), torch.empty_like(x)
        _call("excite_sums", x, grad, photos, rows, channels, out_grad, torch.get_num_threads())
        out_grad *= gate * (1 - gate)
        with torch.autocast("cpu", enabled=False):
            squeezed_grad = torch.ops.aten.silu_backward(out_grad @ out, squeezed)
            offset = (squeezed_grad @ into).div_(rows)
            into_grad, out_weight_grad = squeezed_grad.T @ means, out_grad.T @ F.silu(squeezed)
        _call("excite", grad, x_grad, photos, rows, channels, gate, offset, torch.get_num_threads())
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
        _call(
            "depthwise_grad", x, grad, taps, x_grad, taps_grad, len(x), *x.shape[2:], *grad.shape[2:], channels, kernel,
            ctx.stride, *ctx.padding, torch.get_num_threads(),
        )  # fmt: skip
        bias_grad = grad.sum((0, 2, 3), dtype=torch.float32) if ctx.biased else None
        return x_grad, taps_grad.T.reshape(weight.shape), bias_grad, None, None


def _call(function: str, *arguments: Tensor | int | None) -> None:
    """A function of the C for the dtype of its maps, of which the second argument is one."""
    maps = arguments[1]
    assert isinstance(maps, Tensor)
    loaded = compiled(maps.dtype)
    assert loaded is not None
    for kind, value in zip(_ARGUMENTS[function], arguments, strict=True):
        if isinstance(value, Tensor):
            assert value.dtype == maps.dtype if kind is _MAP else value.dtype in _OTHERS
    getattr(loaded, function)(*(value.data_ptr() if isinstance(value, Tensor) else value for value in arguments))
