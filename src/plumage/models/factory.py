"""Models by name, with random or pretrained weights."""

import logging
from pathlib import Path

from plumage.errors import ModelError
from plumage.models.classifier import ImageClassifier
from plumage.models.networks import build_network, configure
from plumage.models.pretrained import load_pretrained
from plumage.models.state_dicts import load_tensors

log = logging.getLogger(__name__)


def create_model(
    name: str, num_classes: int, weights: str | Path | None = None, *, drop_rate: float | None = None,
    drop_path_rate: float | None = None, in_chans: int = 3,
) -> ImageClassifier:  # fmt: skip
    """The model `name` of `list_models()`, with its `config` and `preprocessing`.

    Args:
        num_classes: outputs; 0 leaves the classifier out, so that the model returns pooled features.
        weights: None (random), "imagenet" (the published ones), or the path of a safetensors or PyTorch file, whose
            state dict has the names of Plumage, torchvision, timm or lukemelas, below any prefix. If they were trained on
            another number of classes or have no classifier, it stays random, and a log line says so.
        drop_rate, drop_path_rate: dropout, and stochastic depth at the last block; None: the architecture's.
        in_chans: channels of the input. Weights need 3.

    Raises:
        ModelError: the name is unknown, a rate is impossible, or `in_chans` does not go with `weights`.
        WeightsError: the weights are missing, damaged, or another model's.
    """
    config = configure(name, drop_rate, drop_path_rate)
    if weights is None:
        return build_network(config, num_classes, in_chans=in_chans)
    if in_chans != 3:
        raise ModelError(
            f"in_chans: got {in_chans} with weights, which have 3 input channels; takes 3, or weights=None"
        )
    source = f"{name}'s ImageNet weights" if weights == "imagenet" else str(weights)
    (config, preprocessing), tensors = load_pretrained(config, weights)
    model = build_network(config, num_classes, preprocessing)
    if not load_tensors(model, tensors, source):
        log.info("%s: the classifier is new, for %d classes; all else is loaded", source, num_classes)
    return model
