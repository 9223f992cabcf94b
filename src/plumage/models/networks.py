"""Networks by name: the one place that knows which class builds which architecture."""

from dataclasses import replace
from typing import Any

from plumage.architectures import ARCHITECTURES, ArchitectureConfig, EfficientNetConfig
from plumage.errors import ModelError
from plumage.models.classifier import ImageClassifier
from plumage.models.efficientnet import EfficientNet
from plumage.models.preprocessing import Preprocessing

NETWORKS: dict[type[ArchitectureConfig], type[ImageClassifier]] = {EfficientNetConfig: EfficientNet}


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return list(ARCHITECTURES)


def configure(name: str, drop_rate: float | None = None, drop_path_rate: float | None = None) -> ArchitectureConfig:
    """The configuration of `name`, with these rates if given. ModelError for an unknown name or an impossible rate."""
    if name not in ARCHITECTURES:
        raise ModelError(f"model.name: got {name!r}; takes {', '.join(ARCHITECTURES)}")
    given: dict[str, Any] = {"dropout": drop_rate, "drop_path": drop_path_rate}
    rates = {key: rate for key, rate in given.items() if rate is not None}
    for key, rate in rates.items():
        if not 0 <= rate < 1:
            raise ModelError(f"model.{key}: got {rate}; takes a rate from 0 to under 1")
    return replace(ARCHITECTURES[name], **rates)


def build_network(
    config: ArchitectureConfig, num_classes: int, preprocessing: Preprocessing | None = None, in_chans: int = 3
) -> ImageClassifier:
    """The network of `config`, randomly initialised."""
    return NETWORKS[type(config)](config, num_classes, preprocessing, in_chans)
