"""Every architecture by its name: what params.yaml takes and `plumage.models` builds. Nothing here imports torch."""

from dataclasses import dataclass
from typing import Literal

Padding = Literal["symmetric", "same"]


@dataclass(frozen=True)
class EfficientNetConfig:
    """Everything that an architecture and its conventions consist of, the number of classes aside."""

    name: str
    width: float
    """Factor on every stage's channels."""
    depth: float
    """Factor on every stage's repeats."""
    resolution: int
    """Side of the square input that the scaling was made for, in pixels."""
    dropout: float
    """Rate on the pooled features, before the classifier."""
    lite: bool = False
    drop_path: float = 0.2
    """Stochastic depth: block i of N is skipped for a sample with probability drop_path * i / N."""
    padding: Padding = "symmetric"
    """TensorFlow's SAME ("same": at stride 2 the odd pixel goes to the bottom and right), or kernel // 2 all round."""
    bn_eps: float = 1e-3
    bn_momentum: float = 0.1
    """Share of the new batch in batch norm's running statistics."""


ARCHITECTURES = {
    config.name: config
    for config in (
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
}
