"""A trained model in a folder, as a network of torch. Loading can't run code."""

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from plumage.common.files import atomic_path, write_json
from plumage.errors import ModelError, WeightsError
from plumage.models.classifier import ImageClassifier
from plumage.models.description import DESCRIPTION_FILE, FORMAT, WEIGHTS_FILE, Description, first_problem
from plumage.models.model_files import ModelFiles, read_model
from plumage.models.networks import build_network
from plumage.models.preprocessing import Preprocessing
from plumage.models.state_dicts import load_tensors


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
        raise ModelError(f"the model can't be saved: {first_problem(error)}") from None
    weights = {key: value for key, value in model.state_dict().items() if value.is_floating_point()}
    with atomic_path(folder / WEIGHTS_FILE) as beside:
        # Not `save_file`: killed, it leaves a temporary file of a random name, and its errors name no file.
        beside.write_bytes(
            safetensors.torch.save({key: value.cpu().float().contiguous() for key, value in weights.items()})
        )
    write_json(folder / DESCRIPTION_FILE, description.model_dump(mode="json"))


def load_model(folder: Path) -> SavedModel:
    """The model in `folder`. ModelError or WeightsError if a file is missing, damaged or another model's."""
    return build_model(read_model(folder))


def build_model(files: ModelFiles) -> SavedModel:
    """The network that `files` describe, with their weights."""
    description, weights = files
    model = build_network(description.architecture, len(description.classes), description.preprocessing)
    load_tensors(model, {name: torch.from_numpy(value) for name, value in weights.items()}, WEIGHTS_FILE)
    return SavedModel(model.eval(), description.classes, description.preprocessing, description.temperature)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, on the CPU. WeightsError if it is damaged."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, RuntimeError, MemoryError) as error:
        raise WeightsError(f"{path}: not a whole .safetensors file ({error})") from None
