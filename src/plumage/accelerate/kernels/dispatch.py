"""Which tensors the kernels of a training step take, and the calls of these."""

import torch
from torch import Tensor

from plumage.accelerate import kernels
from plumage.accelerate.kernels import ARGUMENTS, MAP, Library
from plumage.config import Precision

LIBRARIES: dict[torch.dtype, Library] = {torch.float32: "training", torch.bfloat16: "training in bf16"}
"""The compiled C for maps of each dtype."""
_OTHERS = (torch.float32, torch.float64, torch.uint8)
"""Dtypes behind pointers to anything but a map."""


def dtype_of(device: torch.device, precision: Precision) -> torch.dtype:
    """The dtype of a training step's maps; `auto`: bfloat16 if a GPU or processor computes in it, else float32."""
    if precision == "auto":
        native = (
            torch.cuda.is_bf16_supported()
            if device.type == "cuda"
            else device.type == "cpu" and kernels.computes_bf16()
        )
        precision = "bf16" if native else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def supports(x: Tensor) -> bool:
    """Whether the C can take `x`, N x C x H x W, here: on a CPU, as bfloat16, or as float32 that autocast would leave so."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x.device.type != "cpu" or traced or x.dtype not in LIBRARIES:
        return False
    mixed = x.dtype == torch.float32 and torch.is_autocast_enabled("cpu")
    return not mixed and kernels.compiled(LIBRARIES[x.dtype]) is not None


def call(function: str, *arguments: object) -> None:
    """Call a C function, compiled for the dtype of its second argument, a map. Tensors become pointers."""
    maps = arguments[1]
    assert isinstance(maps, Tensor)
    loaded = kernels.compiled(LIBRARIES[maps.dtype])
    assert loaded is not None
    for kind, value in zip(ARGUMENTS[function], arguments, strict=True):
        if isinstance(value, Tensor):
            assert value.dtype == maps.dtype if kind is MAP else value.dtype in _OTHERS
    getattr(loaded, function)(*(value.data_ptr() if isinstance(value, Tensor) else value for value in arguments))
