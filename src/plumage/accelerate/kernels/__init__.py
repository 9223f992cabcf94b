"""C kernels for a CPU. This module compiles and calls them; the others wrap them.

Memory bandwidth limits these operations, and the C makes fewer passes over memory than torch does. It is compiled for
this processor on first use, in seconds, and kept in the user's cache. Without a compiler, or off the CPU, torch's
operations and Pillow do the same.
"""

import ctypes
import functools
import os
import platform
import re
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from plumage.accelerate.kernels.library_cache import load_library
from plumage.common.variables import environment_variables
from plumage.config import Precision

Activation = Literal["none", "silu", "relu6"]
FOLDER = Path(__file__).parent
SOURCES = {torch.float32: ("training.c", "photos.c"), torch.bfloat16: ("training.c",)}
FLAGS = ["-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC"]
BLOCK = 16
"""Channels that the C handles at a time, as in common.h: a depthwise convolution needs a multiple of it."""
ACTIVATIONS: dict[Activation, int] = {"none": 0, "silu": 1, "relu6": 2}
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # in malloc.h


class _MAP(ctypes.c_void_p):
    """A pointer to a feature map, in the dtype that the C was compiled for."""


_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
_OTHERS = (torch.float32, torch.float64, torch.uint8)
"""Dtypes behind the other pointers."""
_ARGUMENTS: dict[str, list[type]] = {
    "norm_act": [_MAP] * 2 + [_LONG] * 2 + [_POINTER] * 2 + [_INT] * 2,
    "channel_sums": [_MAP] * 2 + [_LONG] * 2 + [_POINTER] * 3 + [_INT, _POINTER, _INT],
    "norm_act_grad": [_MAP] * 3 + [_LONG] * 2 + [_POINTER] * 4 + [_INT] * 2,
    "excite": [_MAP] * 2 + [_LONG] * 3 + [_POINTER] * 2 + [_INT],
    "excite_sums": [_MAP] * 2 + [_LONG] * 3 + [_POINTER, _INT],
    "depthwise_grad": [_MAP] * 2 + [_POINTER, _MAP, _POINTER] + [_LONG] * 10 + [_INT],
    "normalise": [_POINTER, _MAP] + [_LONG] * 2 + [_POINTER] * 2 + [_INT],
    "resample": [_POINTER] + [_LONG] * 3 + [_FLOAT] * 4 + [_POINTER, _LONG] + [_INT] * 2,
}


def keep_memory() -> None:
    """Keep freed memory in this process: each step needs it again, and the system would zero it first."""
    if platform.system() == "Linux":
        with suppress(AttributeError):  # a C library without it
            libc = ctypes.CDLL(None)
            libc.mallopt(_MMAP_THRESHOLD, 2**30)
            libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def c_compiler() -> list[str] | None:
    """The C compiler's command, or None. Always None off Linux, where torch ships an OpenMP that is not the compiler's."""
    if platform.system() != "Linux":
        return None
    given: list[str] = []
    with suppress(ValueError):  # a quote without its other half
        given = shlex.split(os.environ.get("CC", ""))
    return next(
        (command for command in (given, ["cc"], ["gcc"], ["clang"]) if command and shutil.which(command[0])), None
    )


@functools.cache
def compiled(dtype: torch.dtype = torch.float32) -> ctypes.CDLL | None:
    """The compiled C for maps of `dtype`, float32 or bfloat16; None if it can't be compiled here."""
    compiler = c_compiler()
    if not compiler:
        return None
    flags = [*FLAGS, *(["-DBF16"] if dtype == torch.bfloat16 else [])]
    sources = [FOLDER / name for name in SOURCES[dtype]]

    def compile_to(library: Path) -> None:
        command = [*compiler, *flags, *map(str, sources), "-o", str(library), "-lm"]
        subprocess.run(command, check=True, capture_output=True, env={**environment_variables(), "LC_ALL": "C"})

    try:
        code = b"".join(file.read_bytes() for file in (FOLDER / "common.h", *sources))
        target = os.fsencode("\n".join([*compiler, *flags, platform.machine(), _processor()]))
    except OSError:
        return None
    loaded = load_library(code + target, compile_to)
    if loaded is None:
        return None
    for function in (getattr(loaded, name) for name in _ARGUMENTS if hasattr(loaded, name)):
        function.argtypes, function.restype = _ARGUMENTS[function.__name__], None
    return loaded


def _processor() -> str:
    """The processor's model and features: machines with different ones may share a home folder."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    lines = (re.search(f"^{key}.*", cpuinfo, re.MULTILINE) for key in ("model name", "flags", "Features"))
    return "\n".join(line[0] for line in lines if line)


def computes_bf16() -> bool:
    """Whether training in bfloat16 is faster than in float32 on this processor. (Without instructions for it, 15 times slower.)

    AVX-512 BF16 is on AMD's (1.6 times as fast, EPYC), not on Intel's without AMX (0.92, Xeon).
    """
    processor = _processor()
    fast = {"amx_bf16", "bf16"} if "Intel" in processor else {"avx512_bf16", "amx_bf16", "bf16"}
    return compiled(torch.bfloat16) is not None and not fast.isdisjoint(processor.split())


def dtype_of(device: torch.device, precision: Precision) -> torch.dtype:
    """The dtype of a training step's maps; `auto`: bfloat16 if a GPU or processor computes in it, else float32."""
    if precision == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and computes_bf16()
        precision = "bf16" if native else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def supports(x: Tensor) -> bool:
    """Whether the C can take `x`, N x C x H x W, here: on a CPU, as bfloat16, or as float32 that autocast would leave so."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x.device.type != "cpu" or traced or x.dtype not in (torch.float32, torch.bfloat16):
        return False
    mixed = x.dtype == torch.float32 and torch.is_autocast_enabled("cpu")
    return not mixed and compiled(x.dtype) is not None


def call(function: str, *arguments: object) -> None:
    """Call a C function, compiled for the dtype of its second argument, a map. Tensors become pointers."""
    maps = arguments[1]
    assert isinstance(maps, Tensor)
    loaded = compiled(maps.dtype)
    assert loaded is not None
    for kind, value in zip(_ARGUMENTS[function], arguments, strict=True):
        if isinstance(value, Tensor):
            assert value.dtype == maps.dtype if kind is _MAP else value.dtype in _OTHERS
    getattr(loaded, function)(*(value.data_ptr() if isinstance(value, Tensor) else value for value in arguments))
