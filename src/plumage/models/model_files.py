"""A trained model in a folder: weights, and model.json. Reading them needs no torch and can't run code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from plumage.errors import ModelError, WeightsError
from plumage.models.description import DESCRIPTION_FILE, WEIGHTS_FILE, Description, read_description
from plumage.models.scaling import tensor_shapes

NOT_FINITE = "the model's logits are not finite: its training diverged (lower train.lr), or its weights are damaged"
COUNTER = "num_batches_tracked"  # batch norm's, read only if its momentum is None
OTHER_MODEL = "these are another model's weights"


class ModelFiles(NamedTuple):
    """What a model's folder holds."""

    description: Description
    weights: Mapping[str, NDArray[np.float32]]
    """Its state dict, without batch norm's counters."""

    @property
    def num_parameters(self) -> int:
        """The number of values that training learns."""
        return sum(value.size for name, value in self.weights.items() if ".running_" not in name)


def read_model(folder: Path) -> ModelFiles:
    """The model in `folder`. ModelError or WeightsError if a file is missing, damaged or another model's."""
    description = read_description(folder / DESCRIPTION_FILE)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such file; a model folder holds {WEIGHTS_FILE} and {DESCRIPTION_FILE}")
    tensors, num_classes = _read_safetensors(path), len(description.classes)
    bias = tensors.get("classifier.bias")
    if bias is None or bias.shape != (num_classes,):
        raise ModelError(
            f"{path}: its classifier does not have the {num_classes} classes that {DESCRIPTION_FILE} names; "
            "the two files are of different models"
        )
    name, shapes = description.architecture.name, tensor_shapes(description.architecture, num_classes)
    for key, shape in shapes.items():
        if key not in tensors:
            raise WeightsError(f"{path}: lacks {key!r} of {name}")
        value = tensors[key]
        if value.shape != shape or value.dtype.kind != "f":
            raise WeightsError(
                f"{path}: {key!r} is {value.dtype} {value.shape}, but {name} takes {shape}: {OTHER_MODEL}"
            )
        if damage := damage_of(value, key):
            raise WeightsError(f"{path}: {key!r} {damage}: the file is damaged, or its training diverged")
    if unknown := next((key for key in tensors if key not in shapes and not key.endswith(COUNTER)), None):
        raise WeightsError(f"{path}: {unknown!r} is unknown to {name}: {OTHER_MODEL}")
    return ModelFiles(description, {key: tensors[key].astype(np.float32, copy=False) for key in shapes})


def damage_of(value: NDArray[np.floating], name: str) -> str | None:
    """Why a network with this tensor would not give finite outputs; None if it may."""
    single = value.astype(np.float32, copy=False)  # as it is computed with
    if not np.isfinite(single).all():
        return "has values that are not finite"
    if name.endswith("running_var") and (single < 0).any():
        return "has negative variances"
    return None


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a .safetensors file. WeightsError if it is damaged, or has a dtype that NumPy lacks."""
    try:
        return safetensors.numpy.load_file(path)
    except (SafetensorError, OSError, RuntimeError, MemoryError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: not a whole .safetensors file ({error})") from None
