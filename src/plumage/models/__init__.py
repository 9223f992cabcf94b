"""Networks, their pretrained weights, and models saved to a folder."""

from plumage.models.factory import create_model
from plumage.models.networks import list_models

__all__ = ["create_model", "list_models"]
