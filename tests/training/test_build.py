"""A model starts with the size, preprocessing and regularisation that suit its weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from plumage.config import Model
from plumage.data.dataset.store import Dataset
from plumage.models import create_model
from plumage.training.build import choose_preprocessing, new_model

MakeDataset = Callable[[int], Dataset]


def test_the_weights_preprocessing_is_kept_except_for_what_is_set() -> None:
    model = create_model("efficientnet_lite0", 4, "imagenet")
    whole = model.preprocessing.model_copy(update={"crop_fraction": 1.0})
    assert choose_preprocessing(model, None, None) == whole.model_copy(update={"size": 288})  # 9/7 of 224
    assert choose_preprocessing(model, 224, None) == whole
    assert [choose_preprocessing(model, None, None, side).size for side in (20, 97, 500)] == [32, 96, 224]
    changed = choose_preprocessing(model, 96, 1.0, 500)
    assert (changed.size, changed.crop_fraction, changed.mean) == (96, 1.0, model.preprocessing.mean)


def test_pretrained_weights_get_no_dropout_unless_set(color_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = color_dataset(2)

    def rates(**keys: Any) -> tuple[float, float]:
        model, _ = new_model(Model(name="efficientnet_lite0", **keys), dataset, 0, tmp_path)
        return model.config.dropout, model.config.drop_path

    assert rates() == (0.2, 0.05)
    assert rates(weights="imagenet") == (0.0, 0.0)
    assert rates(weights="imagenet", dropout=0.3, drop_path=0.1) == (0.3, 0.1)
