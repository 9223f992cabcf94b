"""The floating-point type that a device computes in."""

import torch

from plumage.accelerate import kernels
from plumage.config import Precision


def dtype_of(device: torch.device, precision: Precision) -> torch.dtype:
    """The dtype of a training step's feature maps; `auto` is bfloat16 on a GPU or processor that computes in it, else float32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and kernels.computes_bf16() else torch.float32
