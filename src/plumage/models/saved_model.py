"""A trained model in a folder: `model.safetensors` and, beside it, `model.json` with all that is needed to use it.

Neither can run code when it is loaded, and the same model gives the same bytes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from plumage.architectures import EfficientNetConfig
from plumage.common.files import atomic_path, write_json
from plumage.errors import ModelError, WeightsError
from plumage.models.efficientnet import EfficientNet
from plumage.models.preprocessing import Preprocessing
from plumage.models.state_dicts import load_tensors

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"


class Description(BaseModel):
    """What `model.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    architecture: EfficientNetConfig
    classes: list[str] = Field(min_length=1)
    """The name of each logit, in order."""
    preprocessing: Preprocessing
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False)
    """What logits are divided by before the softmax."""


@dataclass(frozen=True)
class SavedModel:
    """A model loaded from its folder, in evaluation mode on the CPU. Its probabilities are those of logits / `temperature`."""

    model: EfficientNet
    classes: list[str]
    preprocessing: Preprocessing
    temperature: float

    @property
    def name(self) -> str:
        """The architecture's name."""
        return self.model.config.name


def save_model(
    folder: Path, model: EfficientNet, classes: list[str], preprocessing: Preprocessing, temperature: float = 1.0
) -> None:
    """Write `model` (fp32) and its description into `folder`. ModelError when `classes` are not one a logit."""
    if len(classes) != model.classifier.out_features:
        raise ModelError(f"a model of {model.classifier.out_features} classes can't be saved with {len(classes)} names")
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

    ModelError when a file is missing, damaged or of an unknown format; WeightsError when the two don't fit each other.
    """
    description = read_description(folder / DESCRIPTION_FILE)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(f"{path}: no such file; a model's folder has {WEIGHTS_FILE} and {DESCRIPTION_FILE}")
    model = EfficientNet(description.architecture, len(description.classes), description.preprocessing)
    if not load_tensors(model, read_safetensors(path), str(path)):
        raise ModelError(
            f"{path}: its classifier has other than the {len(description.classes)} classes that {DESCRIPTION_FILE} "
            "names; the two files are of different models"
        )
    return SavedModel(model.eval(), description.classes, description.preprocessing, description.temperature)


def read_description(path: Path) -> Description:
    """The model description in `path`. ModelError when it is missing, damaged, or of a format that is not known."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise ModelError(f"{path}: its format is {found!r}; this version of Plumage reads format {FORMAT}")
        return Description.model_validate(content)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; a model's folder has {WEIGHTS_FILE} and {DESCRIPTION_FILE}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: is no model description ({error})") from None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on the CPU. WeightsError when it is damaged."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: is no whole .safetensors file ({error})") from None
