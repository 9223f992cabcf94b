"""How photos become inputs; saved with weights. The wrong size or crop costs up to 10 points of accuracy."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Preprocessing(BaseModel):
    """Resize the short side to size / crop_fraction, crop the centre, normalise by mean and std."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=8)  # side of the model's square input, in pixels
    crop_fraction: float = Field(gt=0, le=1)  # share of the photo's short side that the centre crop keeps
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN  # per channel, on the 0..1 scale
    std: tuple[float, float, float] = IMAGENET_STD
