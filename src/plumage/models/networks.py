"""Networks by name: the one place that knows which class builds which architecture."""

from dataclasses import replace

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
    """The configuration of `name` for training from scratch; a rate that is None stays the architecture's.

    Raises:
        ModelError: the name is unknown, or a rate is not in [0, 1).
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"model.name: got {name!r}; takes {', '.join(ARCHITECTURES)}")
    config = ARCHITECTURES[name].config
    dropout = config.dropout if drop_rate is None else drop_rate
    drop_path = config.drop_path if drop_path_rate is None else drop_path_rate
    for key, rate in (("dropout", dropout), ("drop_path", drop_path)):
        if not 0 <= rate < 1:
            raise ModelError(f"model.{key}: got {rate}; takes a rate from 0 to under 1")
    return replace(config, dropout=dropout, drop_path=drop_path)


def build_network(
    config: ArchitectureConfig, num_classes: int, preprocessing: Preprocessing | None = None, in_chans: int = 3
) -> ImageClassifier:
    """The network of `config`, randomly initialised."""
    return NETWORKS[type(config)](config, num_classes, preprocessing, in_chans)
