"""Which tensors the kernels of a training step take, and the calls of these."""

import torch
from torch import Tensor

from plumage.accelerate import kernels
from plumage.accelerate.kernels import ARGUMENTS, MAP, Library
from plumage.config import Precision

LIBRARIES: dict[torch.dtype, Library] = {torch.float32: "training", torch.bfloat16: "training in bf16"}
"""The compiled C for maps of each dtype."""
_OTHERS = (torch.float32, torch.float64, torch.int64, torch.uint8)
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
    """Call a C function, compiled for the dtype of its maps. Tensors become pointers."""
    kinds = ARGUMENTS[function]
    tensors = [(kind, x) for kind, x in zip(kinds, arguments, strict=True) if isinstance(x, Tensor)]
    (dtype,) = {x.dtype for kind, x in tensors if kind is MAP}
    assert all(x.dtype in _OTHERS for kind, x in tensors if kind is not MAP)
    loaded = kernels.compiled(LIBRARIES[dtype])
    assert loaded is not None
    getattr(loaded, function)(*(x.data_ptr() if isinstance(x, Tensor) else x for x in arguments))
