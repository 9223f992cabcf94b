"""A trained model in a folder: weights, and model.json with all else that its use needs. Loading can't run code."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from safetensors import SafetensorError
from torch import Tensor

from plumage.architectures import ARCHITECTURES, ArchitectureConfig
from plumage.common import paths
from plumage.common.files import atomic_path, read_json, write_json
from plumage.common.text import escaped
from plumage.errors import ModelError, WeightsError
from plumage.models.classifier import ImageClassifier
from plumage.models.networks import build_network
from plumage.models.preprocessing import Preprocessing
from plumage.models.state_dicts import load_tensors

FORMAT = 1
WEIGHTS_FILE, DESCRIPTION_FILE = paths.WEIGHTS.name, paths.DESCRIPTION.name
NOT_FINITE = "the model's logits are not finite: its training diverged (lower train.lr), or its weights are damaged"
ClassName = Annotated[str, StringConstraints(min_length=1)]


class Description(BaseModel):
    """The content of `model.json`: within these limits, a network takes bounded memory and gives finite probabilities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    architecture: ArchitectureConfig
    classes: list[ClassName] = Field(min_length=1)  # the name of each logit, in order
    preprocessing: Preprocessing
    temperature: float = Field(1.0, ge=0.001, le=1000)  # logits are divided by it before the softmax

    @model_validator(mode="after")
    def _check(self) -> Self:
        """The size of the network is its architecture's, and no two classes have the same name."""
        found = self.architecture
        if found.name not in ARCHITECTURES:
            raise ValueError(f"architecture.name: is {found.name[:40]!r}; takes {', '.join(ARCHITECTURES)}")
        known = ARCHITECTURES[found.name]
        for key in ("width", "depth", "resolution", "lite"):
            if getattr(found, key) != getattr(known, key):
                value = f"is {getattr(found, key)!r}, but {getattr(known, key)!r} in {found.name}"
                raise ValueError(f"architecture.{key}: {value}")
        name, count = Counter(self.classes).most_common(1)[0]
        if count > 1:
            raise ValueError(f"classes: has {name!r} {count} times")
        return self


@dataclass(frozen=True)
class SavedModel:
    """A model loaded from its folder, on the CPU in eval mode. Its probabilities are the softmax of logits / `temperature`."""

    model: ImageClassifier
    classes: list[str]
    preprocessing: Preprocessing
    temperature: float

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.model.config.name


def save_model(
    folder: Path, model: ImageClassifier, classes: list[str], preprocessing: Preprocessing, temperature: float = 1.0
) -> None:
    """Write `model` (as fp32) and its description into `folder`; the same model gives the same bytes.

    ModelError if `classes` does not name each logit once, the model's inputs are not RGB, or `Description` refuses a value.
    """
    if len(classes) != model.num_classes:
        raise ModelError(f"a model of {model.num_classes} classes can't be saved with {len(classes)} names")
    if model.in_chans != 3:
        raise ModelError(f"a model of {model.in_chans} input channels can't be saved; takes one of 3 channels (RGB)")
    try:
        description = Description(
            format=FORMAT,
            architecture=model.config,
            classes=classes,
            preprocessing=preprocessing,
            temperature=temperature,
        )
    except ValidationError as error:
        raise ModelError(f"the model can't be saved: {_first_problem(error)}") from None
    weights = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    with atomic_path(folder / WEIGHTS_FILE) as beside:
        # Not `save_file`: killed, it leaves a temporary file of a random name, and its errors name no file.
        beside.write_bytes(
            safetensors.torch.save({key: value.cpu().float().contiguous() for key, value in weights.items()})
        )
    write_json(folder / DESCRIPTION_FILE, description.model_dump(mode="json"))


def load_model(folder: Path) -> SavedModel:
    """The model in `folder`. ModelError or WeightsError if a file is missing, damaged or another model's."""
    description = read_description(folder / DESCRIPTION_FILE)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such file; a model folder holds {WEIGHTS_FILE} and {DESCRIPTION_FILE}")
    tensors, num_classes = read_safetensors(path), len(description.classes)
    mismatch = ModelError(
        f"{path}: its classifier does not have the {num_classes} classes that {DESCRIPTION_FILE} names; "
        "the two files are of different models"
    )
    bias = tensors.get("classifier.bias")
    if bias is None or bias.shape != (num_classes,):  # before memory is taken for so many
        raise mismatch
    model = build_network(description.architecture, num_classes, description.preprocessing)
    if not load_tensors(model, tensors, str(path)):
        raise mismatch
    return SavedModel(model.eval(), description.classes, description.preprocessing, description.temperature)


def read_description(path: Path) -> Description:
    """The model description in `path`. ModelError if it is missing, damaged or of an unknown format."""
    try:
        content: Any = read_json(path)
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise ModelError(f"{path}: its format is {repr(found)[:40]}; this version of Plumage reads format {FORMAT}")
        return Description.model_validate_json(json.dumps(content), strict=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model folder holds {WEIGHTS_FILE} and {DESCRIPTION_FILE}") from None
    except ValidationError as error:
        raise ModelError(f"{path}: {_first_problem(error)}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a model description ({error})") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return escaped(": ".join(filter(None, (".".join(map(str, first["loc"])), message))))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on the CPU. WeightsError if it is damaged."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, RuntimeError, MemoryError) as error:
        raise WeightsError(f"{path}: not a whole .safetensors file ({error})") from None
