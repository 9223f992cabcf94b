"""Models by name, with random or pretrained weights."""

import logging
from pathlib import Path

from plumage.models.efficientnet import EfficientNet, configure
from plumage.models.pretrained import _file, _lite, _torchvision
from plumage.models.state_dicts import load_tensors

log = logging.getLogger(__name__)


def create_model(
    name: str,
    num_classes: int,
    weights: str | Path | None = None,
    *,
    dropout: float | None = None,
    drop_path: float | None = None,
) -> EfficientNet:
    """An EfficientNet with random or pretrained weights; it carries its `config` and its `preprocessing`.

    `weights` is None (random), "imagenet" (the published ones), or a .safetensors, .pth or .pt file whose state dict
    has the names of Plumage, torchvision, timm or lukemelas. With another number of classes than the weights have, the
    classifier is random (a log line says so). `dropout` and `drop_path` default to the architecture's.
    ModelError for an unknown name or impossible rate; WeightsError when the weights can't be had or don't fit.
    """
    config = configure(name, dropout, drop_path)
    if weights is None:
        return EfficientNet(config, num_classes)
    if str(weights) == "imagenet":
        source = f"{name}'s ImageNet weights"
        config, preprocessing, tensors = _lite(config) if config.lite else _torchvision(config)
    else:
        source = str(weights)
        config, preprocessing, tensors = _file(config, Path(weights))
    model = EfficientNet(config, num_classes, preprocessing)
    if not load_tensors(model, tensors, source):
        log.info("%s: the classifier is new, for %d classes; all else is loaded", source, num_classes)
    return model
