"""C kernels for a CPU. This module compiles them, without torch; the others wrap them.

Memory bandwidth limits these operations, and the C makes fewer passes over memory than torch does. It is compiled for
this processor on first use, in seconds, and kept in the user's cache. Without a compiler, or off the CPU, torch's
operations, NumPy and Pillow do the same.
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

from plumage.accelerate.kernels.library_cache import load_library
from plumage.common.variables import environment_variables

Activation = Literal["none", "silu", "relu6"]
FOLDER = Path(__file__).parent
Library = Literal["training", "training in bf16", "photos"]
"""What is compiled together."""
SOURCES: dict[Library, list[str]] = {
    "training": ["training.c", "depthwise.c", "excite.c"],
    "training in bf16": ["training.c", "depthwise.c", "excite.c"],
    "photos": ["photos.c"],
}
"""The sources of each library."""
FLAGS = ["-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC"]
BLOCK = 16
"""Channels that the C handles at a time, as in common.h: a depthwise convolution needs a multiple of it."""
ACTIVATIONS: dict[Activation, int] = {"none": 0, "silu": 1, "relu6": 2}
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # in malloc.h


class MAP(ctypes.c_void_p):
    """A pointer to a feature map, in the dtype that the C was compiled for."""


_POINTER, _LONG, _INT, _FLOAT, _DOUBLE = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float, ctypes.c_double
_CONVOLUTION: list[type] = [*[_LONG] * 10, _INT]  # its sizes, and the threads
ARGUMENTS: dict[str, list[type]] = {
    "norm_act": [MAP] * 2 + [_LONG] * 2 + [_POINTER] + [_INT] * 2,
    "batch_norm": [MAP, _POINTER, *[_LONG] * 2, *[_POINTER] * 2, *[_DOUBLE] * 2, *[_POINTER] * 4, _INT],
    "norm_act_grad": [*[MAP] * 3, *[_LONG] * 2, _POINTER, _INT, _POINTER, _INT],
    "norm_act_depthwise": [*[MAP] * 2, *[_POINTER] * 3, _INT, *_CONVOLUTION],
    "norm_act_depthwise_grad": [*[MAP] * 3, *[_POINTER] * 2, _INT, *[_POINTER] * 2, *_CONVOLUTION],
    "expand_depthwise": [*[MAP] * 2, *[_POINTER] * 5, _INT, _LONG, *_CONVOLUTION],
    "expand_depthwise_grad": [*[MAP] * 3, *[_POINTER] * 5, _INT, *[_POINTER] * 3, _LONG, *_CONVOLUTION],
    "channel_products": [MAP] + [_LONG] * 2 + [_POINTER] * 3 + [_INT],
    "add_pointwise": [MAP] * 2 + [_LONG] * 2 + [_POINTER] * 2 + [_INT],
    "norm_act_sums": [MAP] * 2 + [_LONG] * 3 + [_POINTER, _INT] * 2,
    "norm_act_excite_sums": [MAP] * 2 + [_LONG] * 3 + [_POINTER, _INT] * 2,
    "norm_act_excite_grad": [*[MAP] * 3, *[_LONG] * 3, *[_POINTER] * 4, _INT, _POINTER, _INT],
    "norm_act_project": [*[MAP] * 2, *[_LONG] * 4, _POINTER, _INT, *[_POINTER] * 2, _INT],
    "norm_act_project_sums": [*[MAP] * 2, *[_LONG] * 4, _POINTER, _INT, *[_POINTER] * 3, _INT],
    "norm_act_project_grad": [*[MAP] * 3, *[_LONG] * 4, *[_POINTER] * 5, _INT, _POINTER, _INT],
    "excite": [MAP] * 2 + [_LONG] * 3 + [_POINTER] * 2 + [_INT],
    "excite_sums": [MAP] * 2 + [_LONG] * 3 + [_POINTER, _INT],
    "normalise": [_POINTER, MAP] + [_LONG] * 2 + [_POINTER] * 2 + [_INT],
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
def compiled(library: Library = "training") -> ctypes.CDLL | None:
    """The compiled C; None if it can't be compiled here."""
    compiler = c_compiler()
    if not compiler:
        return None
    sources = [FOLDER / name for name in SOURCES[library]]
    flags = [*FLAGS, "-DBF16"] if library == "training in bf16" else FLAGS

    def compile_to(file: Path) -> None:
        command = [*compiler, *flags, *map(str, sources), "-o", str(file), "-lm"]
        subprocess.run(command, check=True, capture_output=True, env={**environment_variables(), "LC_ALL": "C"})

    try:
        code = b"".join(file.read_bytes() for file in (*sorted(FOLDER.glob("*.h")), *sources))
        target = os.fsencode("\n".join([*compiler, *flags, platform.machine(), _processor()]))
    except OSError:
        return None
    loaded = load_library(code + target, compile_to)
    if loaded is None:
        return None
    for function in (getattr(loaded, name) for name in ARGUMENTS if hasattr(loaded, name)):
        function.argtypes, function.restype = ARGUMENTS[function.__name__], None
    return loaded


def _processor() -> str:
    """The processor's model and features, "" off Linux: machines with different ones may share a home folder."""
    if platform.system() != "Linux":
        return ""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    lines = (re.search(f"^{key}.*", cpuinfo, re.MULTILINE) for key in ("model name", "flags", "Features"))
    return "\n".join(line[0] for line in lines if line)


def is_intel() -> bool:
    """Whether the processor is known to be Intel's."""
    return "Intel" in _processor()


def computes_bf16() -> bool:
    """Whether training in bfloat16 is faster than in float32 on this processor."""
    return bf16_rule()[0]


def bf16_rule() -> tuple[bool, str]:
    """The same, and why. (Without instructions for it, bfloat16 takes 15 times as long.)

    AVX-512 BF16 is faster on AMD's (1.6 times, EPYC), not on Intel's without AMX (0.92, Xeon); AMX is (1.4, Xeon).
    """
    processor = _processor()
    has = {"avx512_bf16", "amx_bf16", "bf16"} & set(processor.split())
    if compiled("training in bf16") is None:
        return False, "the kernels for bf16 can't be compiled here"
    if not has:
        return False, "the processor has no bf16 instructions"
    if is_intel() and has == {"avx512_bf16"}:
        return False, "Intel's AVX-512 BF16 without AMX is slower than fp32"
    return True, f"the processor has {', '.join(sorted(has))}"
