"""Models as training starts from them: created, sized for the photos, partly frozen, in training mode."""

from pathlib import Path

from torch import nn

from plumage.config import Model
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import typical_side
from plumage.models.classifier import ImageClassifier
from plumage.models.factory import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.training.seeding import seed_everything

PRETRAINED_SCALE = 9 / 7
"""Whole photos' size over that of the random crops that pretrained weights saw: random crops enlarge objects
(Touvron et al. 2019, arXiv 1906.06423)."""
DROP_PATH = 0.05
"""Stochastic depth from scratch: the paper's 0.2 is for hundreds of epochs. A few epochs from pretrained weights do
better without it, and without dropout."""


def new_model(wanted: Model, dataset: Dataset, seed: int, root: Path) -> tuple[ImageClassifier, Preprocessing]:
    """The model that training starts from, and its preprocessing. A weights file is relative to `root`."""
    seed_everything(seed)
    weights = wanted.weights_from(root)
    dropout, drop_path = (0.0, 0.0) if weights else (None, DROP_PATH)
    dropout = dropout if wanted.dropout is None else wanted.dropout
    drop_path = drop_path if wanted.drop_path is None else wanted.drop_path
    model = create_model(wanted.name, len(dataset.classes), weights, drop_rate=dropout, drop_path_rate=drop_path)
    photo_side = None if weights else typical_side(dataset)
    return model, choose_preprocessing(model, wanted.image_size, wanted.crop, photo_side)


def choose_preprocessing(
    model: ImageClassifier, image_size: int | None, crop: float | None, photo_side: int | None = None
) -> Preprocessing:
    """The preprocessing of the model's weights, with `image_size` and `crop` (default: the whole short side).

    Without `image_size`, pretrained weights get PRETRAINED_SCALE times their own size; a model from scratch gets
    `photo_side`, the photos' short side, from 32 up to the architecture's resolution. Both to the nearest multiple of 32.
    """
    if image_size is None and photo_side is not None:
        image_size = min(model.config.resolution, _multiple_of_32(photo_side))
    elif image_size is None:
        image_size = _multiple_of_32(model.preprocessing.size * PRETRAINED_SCALE)
    return model.preprocessing.model_copy(update={"size": image_size, "crop_fraction": 1.0 if crop is None else crop})


def train_image_size(preprocessing: Preprocessing, ratio: float) -> int:
    """Side of a training crop in pixels: `ratio` times the evaluation size, to the nearest multiple of 32."""
    return preprocessing.size if ratio == 1 else _multiple_of_32(preprocessing.size * ratio)


def _multiple_of_32(side: float) -> int:
    return max(32, round(side / 32) * 32)


def freeze_stages(model: ImageClassifier, stages: int) -> None:
    """Freeze the stem and the first `stages` stages; 0 freezes nothing."""
    for module in [model.stem, *model.stages()[:stages]] if stages else []:
        module.requires_grad_(False)


def train_mode(model: nn.Module, freeze_norm: bool) -> None:
    """Put `model` in training mode; with `freeze_norm`, its batch norms keep their statistics."""
    model.train()
    for module in model.modules():
        if freeze_norm and isinstance(module, nn.BatchNorm2d):
            module.eval()
