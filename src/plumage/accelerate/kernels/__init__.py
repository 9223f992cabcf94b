"""Loops in C for a CPU, where torch makes more passes over memory, which is what limits them; here they are compiled and called.

- photos.py: photos resampled, bytes to normalised floats.
- training.py: batch norm with its activation, squeeze-and-excitation, a depthwise convolution's backward pass.
- inference.py: a block of an EfficientNet at once.

The C is compiled for the processor at hand the first time, in seconds, and kept in the user's cache. Where no compiler is, or a tensor
is not on a CPU, torch's operations and Pillow do the same.
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

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
SOURCES = {torch.float32: ("training.c", "inference.c", "photos.c"), torch.bfloat16: ("training.c",)}
FLAGS = (
    "-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC",
)  # fmt: skip
BLOCK = 16
"""The channels of a depthwise convolution are a multiple of it, as in common.h."""
ACTIVATIONS = {"none": 0, "silu": 1, "relu6": 2}
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


class _MAP(ctypes.c_void_p):
    """To elements of the C's dtype; to anything else is a plain pointer."""


_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
_OTHERS = (torch.float32, torch.float64, torch.uint8)
"""What other pointers point to, each function's to its own."""
_ARGUMENTS: dict[str, list[type]] = {
    "norm_act": [_MAP] * 2 + [_LONG] * 2 + [_POINTER] * 2 + [_INT] * 2,
    "channel_sums": [_MAP] * 2 + [_LONG] * 2 + [_POINTER] * 3 + [_INT, _POINTER, _INT],
    "norm_act_grad": [_MAP] * 3 + [_LONG] * 2 + [_POINTER] * 4 + [_INT] * 2,
    "excite": [_MAP] * 2 + [_LONG] * 3 + [_POINTER] * 2 + [_INT],
    "excite_sums": [_MAP] * 2 + [_LONG] * 3 + [_POINTER, _INT],
    "depthwise_grad": [_MAP] * 2 + [_POINTER, _MAP, _POINTER] + [_LONG] * 10 + [_INT],
    "normalise": [_POINTER, _MAP] + [_LONG] * 2 + [_POINTER] * 2 + [_INT],
    "resample": [_POINTER] + [_LONG] * 3 + [_FLOAT] * 4 + [_POINTER, _LONG] + [_INT] * 2,
    "mbconv": [_POINTER, *[_MAP] * 3],
    "pooled": [_MAP] * 2 + [_POINTER] * 2 + [_LONG] * 4 + [_INT] * 2,
}


def keep_memory() -> None:
    """Have this process keep the memory that it frees: each step takes the same again, and the system would clear it first."""
    if platform.system() == "Linux":
        with suppress(AttributeError):  # a C library without it
            libc = ctypes.CDLL(None)
            libc.mallopt(_MMAP_THRESHOLD, 2**30)
            libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def c_compiler() -> str | None:
    """The C compiler; None where there is none, or not on Linux: torch brings an OpenMP there that is not the compiler's."""
    if platform.system() != "Linux":
        return None
    return os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@functools.cache
def compiled(dtype: torch.dtype = torch.float32) -> ctypes.CDLL | None:
    """The compiled C for maps of `dtype`, float32 or bfloat16; None where it can't be had."""
    compiler = c_compiler()
    if not compiler:
        return None
    try:
        flags = [*FLAGS, *(["-DBF16"] if dtype == torch.bfloat16 else [])]
        sources = [FOLDER / name for name in SOURCES[dtype]]
        code = b"".join(file.read_bytes() for file in (FOLDER / "common.h", *sources))
        made_for = "\n".join([compiler, *flags, platform.machine(), _processor()])
        name = f"kernels-{hashlib.sha256(code + made_for.encode()).hexdigest()[:16]}.so"
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plumage"
        if not (cache / name).exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as beside:  # several processes may be at it
                made = Path(beside) / name
                command = [compiler, *flags, *map(str, sources), "-o", str(made), "-lm"]
                subprocess.run(command, check=True, capture_output=True)
                made.replace(cache / name)
        loaded = ctypes.CDLL(str(cache / name))
    except (OSError, RuntimeError, subprocess.CalledProcessError):  # RuntimeError: there is no home
        return None
    for function in (getattr(loaded, name) for name in _ARGUMENTS if hasattr(loaded, name)):
        function.argtypes, function.restype = _ARGUMENTS[function.__name__], None
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


def supports(x: Tensor) -> bool:
    """Whether the C takes `x`, N x C x H x W, here: on a CPU, float32 (where no autocast would make it bfloat16) or bfloat16."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or x.dtype not in (torch.float32, torch.bfloat16):
        return False
    mixed = x.dtype == torch.float32 and torch.is_autocast_enabled("cpu")
    return not mixed and compiled(x.dtype) is not None


def call(function: str, *arguments: Tensor | ctypes.Structure | int | None) -> None:
    """A function of the C for the dtype of its maps, of which the second argument is one."""
    maps = arguments[1]
    assert isinstance(maps, Tensor)
    loaded = compiled(maps.dtype)
    assert loaded is not None
    for kind, value in zip(_ARGUMENTS[function], arguments, strict=True):
        if isinstance(value, Tensor):
            assert value.dtype == maps.dtype if kind is _MAP else value.dtype in _OTHERS
    getattr(loaded, function)(*map(_as_argument, arguments))


def _as_argument(value: Tensor | ctypes.Structure | int | None) -> object:
    if isinstance(value, Tensor):
        return value.data_ptr()
    return ctypes.byref(value) if isinstance(value, ctypes.Structure) else value
