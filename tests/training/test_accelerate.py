"""train.accelerate: false trains, validates and computes the probe's features in plain torch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import needs_kernels

from plumage.accelerate import engine, layers
from plumage.accelerate.kernels import training
from plumage.config import Train
from plumage.data.dataset.store import Dataset
from plumage.models import create_model
from plumage.models.efficientnet import ConvNormAct
from plumage.models.preprocessing import Preprocessing
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.recipes import train_model


@needs_kernels
@pytest.mark.parametrize("accelerate", [True, False])
def test_kernels_engine_and_fast_layers_are_used_only_if_asked_for(
    color_dataset: Callable[[int], Dataset], monkeypatch: pytest.MonkeyPatch, accelerate: bool
) -> None:
    called: set[str] = set()
    call: Any = training.call

    def count(*arguments: Any) -> None:
        called.add("training")
        call(*arguments)

    class Counted(engine.Engine):
        def _run(self, *arguments: Any) -> Any:
            called.add("inference")
            return super()._run(*arguments)

    monkeypatch.setattr(training, "call", count)
    monkeypatch.setattr("plumage.accelerate.inference.Engine", Counted)
    dataset = color_dataset(4)
    rows = {"train": list(range(0, len(dataset), 2)), "val": list(range(1, len(dataset), 2))}
    model = create_model("efficientnet_lite0", len(dataset.classes), "imagenet")
    settings = dict(recipe="finetune", epochs=1, soup=1, device="cpu", precision="fp32", accelerate=accelerate)
    pre = Preprocessing(size=32, crop_fraction=1.0)
    context = TrainingContext(Train(**settings).resolved(), torch.device("cpu"))
    train_model(model, TrainingData(dataset, rows, pre), context)
    assert called == ({"training", "inference"} if accelerate else set())
    assert isinstance(model.stem, ConvNormAct) and isinstance(model.stem, layers.FastConvNormAct) == accelerate
