"""How photos become inputs; saved with weights. The wrong size or crop costs up to 10 points of accuracy."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Mean = Annotated[float, Field(ge=-100, le=100)]
Std = Annotated[float, Field(ge=0.001, le=100)]


class Preprocessing(BaseModel):
    """Resize the short side to size / crop_fraction, crop the centre, normalise by mean and std."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=8, le=4096)  # side of the model's square input, in pixels
    crop_fraction: float = Field(ge=0.1, le=1)  # share of the photo's short side that the centre crop keeps
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[Mean, Mean, Mean] = IMAGENET_MEAN  # per channel, on the 0..1 scale
    std: tuple[Std, Std, Std] = IMAGENET_STD
