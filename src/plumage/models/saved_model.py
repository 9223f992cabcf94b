"""A trained model in a folder: `model.safetensors`, and beside it `model.json` with all that its use needs.

Loading them can't run code. The same model gives the same bytes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from plumage.architectures import ArchitectureConfig
from plumage.common.files import atomic_path, write_json
from plumage.errors import ModelError, WeightsError
from plumage.models.classifier import ImageClassifier
from plumage.models.networks import build_network
from plumage.models.preprocessing import Preprocessing
from plumage.models.state_dicts import load_tensors

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"


class Description(BaseModel):
    """The content of `model.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    architecture: ArchitectureConfig
    classes: list[str] = Field(min_length=1)
    """The name of each logit, in order."""
    preprocessing: Preprocessing
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    """Logits are divided by it before the softmax."""


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
    """Write `model` (as fp32) and its description into `folder`.

    Raises:
        ModelError: `classes` does not name each logit, or the model's inputs are not RGB.
    """
    if len(classes) != model.num_classes:
        raise ModelError(f"a model of {model.num_classes} classes can't be saved with {len(classes)} names")
    if model.in_chans != 3:
        raise ModelError(f"a model of {model.in_chans} input channels can't be saved; takes one of 3 channels (RGB)")
    tensors = {
        key: tensor.detach().cpu().float().contiguous()
        for key, tensor in model.state_dict().items()
        if tensor.is_floating_point()
    }
    description = Description(
        format=FORMAT,
        architecture=model.config,
        classes=classes,
        preprocessing=preprocessing,
        temperature=temperature,
    )
    with atomic_path(folder / WEIGHTS_FILE) as beside:
        safetensors.torch.save_file(tensors, beside)
    write_json(folder / DESCRIPTION_FILE, description.model_dump(mode="json"))


def load_model(folder: Path) -> SavedModel:
    """The model that `save_model` wrote into `folder`.

    Raises:
        ModelError: a file is missing, damaged or of an unknown format.
        WeightsError: the two files are not of the same model.
    """
    description = read_description(folder / DESCRIPTION_FILE)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such file; a model folder holds {WEIGHTS_FILE} and {DESCRIPTION_FILE}")
    model = build_network(description.architecture, len(description.classes), description.preprocessing)
    if not load_tensors(model, read_safetensors(path), str(path)):
        raise ModelError(
            f"{path}: its classifier does not have the {len(description.classes)} classes that {DESCRIPTION_FILE} names; "
            "the two files are of different models"
        )
    return SavedModel(model.eval(), description.classes, description.preprocessing, description.temperature)


def read_description(path: Path) -> Description:
    """The model description in `path`. ModelError if it is missing, damaged or of an unknown format."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise ModelError(f"{path}: its format is {found!r}; this version of Plumage reads format {FORMAT}")
        return Description.model_validate(content)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model folder holds {WEIGHTS_FILE} and {DESCRIPTION_FILE}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a model description ({error})") from None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on the CPU. WeightsError if it is damaged."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a whole .safetensors file ({error})") from None
