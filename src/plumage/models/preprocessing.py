"""How photos become a model's inputs. It belongs to a set of weights and travels with them (`models/model.json`): the wrong size,
crop or interpolation costs up to 10 points of accuracy.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """How a photo becomes a model's input: short side to size / crop_fraction, centre crop, scale by mean and std."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=8)
    """Side of the square that the model sees, in pixels."""
    crop_fraction: float = Field(gt=0, le=1)
    """Share of the photo's short side that the central crop keeps."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per channel, on the 0..1 scale."""
    std: tuple[float, float, float] = IMAGENET_STD
