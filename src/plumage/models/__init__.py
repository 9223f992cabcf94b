"""Networks, their pretrained weights, and models saved to a folder."""

from importlib import import_module
from typing import Any

_HOMES = {"create_model": "factory", "list_models": "networks"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: these import torch, which takes seconds and is not needed to predict with a saved model."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
