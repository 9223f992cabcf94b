"""How photos become a model's inputs.

The preprocessing belongs to a set of weights and is saved with them (`models/model.json`): the wrong size, crop or
interpolation costs up to 10 points of accuracy.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """Resize the short side to size / crop_fraction, crop the centre, normalise by mean and std."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=8)
    """Side of the model's square input, in pixels."""
    crop_fraction: float = Field(gt=0, le=1)
    """Share of the photo's short side that the centre crop keeps."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per channel, on the 0..1 scale."""
    std: tuple[float, float, float] = IMAGENET_STD
