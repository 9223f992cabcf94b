"""EfficientNet, its pretrained weights, and models saved to a folder."""

from plumage.models.efficientnet import list_models
from plumage.models.factory import create_model

__all__ = ["create_model", "list_models"]
