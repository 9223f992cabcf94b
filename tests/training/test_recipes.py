"""One batch overfits, each recipe trains what it should, one seed gives the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from plumage.config import Train
from plumage.data.dataset.store import Dataset
from plumage.data.split.stratified import Photos, stratified_split
from plumage.inference.predict import predict
from plumage.models import create_model
from plumage.models.batch_norm import fold_bn_scale
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model
from plumage.training import recipes
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.probe import fit_classifier
from plumage.training.recipes import train_model
from plumage.training.results import write_history
from plumage.training.seeding import seed_everything
from plumage.training.state import History
from plumage.training.temperature import best_temperature

CPU = torch.device("cpu")
PRE = Preprocessing(size=32, crop_fraction=1.0)
MakeDataset = Callable[[int], Dataset]


def rows_of(dataset: Dataset) -> dict[str, list[int]]:
    ids = [row.tobytes() for row in dataset.bytes_column("sha256")]
    splits = stratified_split(Photos(dataset.keys, dataset.labels, ids, []), 0.2, 0.2, 0)
    return {split: [row for row, name in enumerate(splits) if name == split] for split in ("train", "val", "test")}


def data_of(dataset: Dataset) -> TrainingData:
    return TrainingData(dataset, rows_of(dataset), PRE)


def train(dataset: Dataset, weights: str | None = None, **settings: Any) -> tuple[Any, History]:
    resolved = Train(device="cpu", **settings).resolved()
    seed_everything(resolved.seed)
    model = create_model("efficientnet_lite0", len(dataset.classes), weights)
    history = train_model(model, data_of(dataset), TrainingContext(resolved, CPU))
    return model, history


def test_one_batch_overfits() -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_b0", 4, drop_path_rate=0.0, drop_rate=0.0)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(40):
        loss = F.cross_entropy(model.train()(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.slow
def test_scratch_learns_classes_that_differ_in_colour(color_dataset: MakeDataset) -> None:
    _, history = train(color_dataset(20), epochs=12, batch_size=8)
    assert history.epochs[history.best_epoch - 1]["val/accuracy"] >= 0.75
    assert history.epochs[-1]["train/loss"] < history.epochs[0]["train/loss"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(color_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset = color_dataset(6)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        model, history = train(dataset, epochs=2, batch_size=8, seed=seed)
        save_model(tmp_path / name, model, dataset.classes, PRE)
        write_history(tmp_path / name / "history.csv", history)
    for file in ("model.safetensors", "history.csv"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert a == b
        assert a != c


@pytest.mark.slow
def test_probe_trains_only_the_classifier(color_dataset: MakeDataset) -> None:
    before = create_model("efficientnet_lite0", 4, "imagenet").state_dict()
    dataset = color_dataset(10)
    model, history = train(dataset, "imagenet", recipe="probe", epochs=40)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert history.epochs[history.best_epoch - 1]["val/accuracy"] == 1.0
    from_features, from_photos = (best_temperature(model, h, data_of(dataset), CPU) for h in (history, History()))
    assert from_features == pytest.approx(from_photos, rel=1e-3)


@pytest.mark.slow
def test_finetune_starts_from_a_probe_and_trains_weights_but_not_statistics(color_dataset: MakeDataset) -> None:
    reference = create_model("efficientnet_lite0", 4, "imagenet")
    fold_bn_scale(reference)
    before = reference.state_dict()
    steps = {"lr": 2e-5, "head_lr": 1e-4, "epochs": 1, "batch_size": 8}
    dataset = color_dataset(10)
    model, history = train(dataset, "imagenet", recipe="finetune", **steps)
    # With a random classifier these few steps end above 1.0; with a probe's, well below.
    assert history.epochs[0]["val/loss"] < 0.8
    after = model.state_dict()
    trained = {
        key.split(".")[1] for key in before if key.endswith("conv.weight") and not torch.equal(after[key], before[key])
    }
    assert trained == {"conv", *(str(block) for block in range(5, 16))}  # the head and the blocks after stage 3
    assert all(torch.equal(after[key], before[key]) for key in before if "running_" in key)
    assert history.best_epoch == 3 and history.val_features is not None, "the refitted classifier"
    features = predict(model, dataset, rows_of(dataset)["val"], PRE, "cpu").features
    torch.testing.assert_close(history.val_features, torch.from_numpy(features), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("good", [True, False], ids=["better", "worse"])
def test_finetune_ends_with_the_refitted_classifier_if_it_is_better(
    color_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch, good: bool
) -> None:
    calls: list[torch.Tensor] = []

    def fit(classifier: torch.nn.Linear, *arguments: Any) -> None:
        *_, on_iteration, _ = arguments
        if not calls:
            fit_classifier(classifier, *arguments)
        else:
            torch.nn.init.constant_(classifier.weight, 7.0)
            metrics = {"train/loss": 1.0, "train/accuracy": 0.5}
            on_iteration(1, {**metrics, "val/loss": 0.0 if good else 9.0, "val/accuracy": 1.0 if good else 0.1})
        calls.append(classifier.weight)

    monkeypatch.setattr(recipes, "fit_classifier", fit)
    model, history = train(
        color_dataset(10), "imagenet", recipe="finetune", epochs=1, batch_size=8, soup=1, wise_ft_alpha=0.0
    )
    assert len(calls) == 2
    assert [epoch["train/lr"] > 0 for epoch in history.epochs] == [True, False]
    assert history.best_epoch == (2 if good else 1)
    assert (history.val_features is not None) == good, "they are the refitted model's"
    assert bool((model.classifier.weight == 7).all()) == good
    untouched = create_model("efficientnet_lite0", 4, "imagenet")
    fold_bn_scale(untouched)
    start = bool(torch.equal(model.head.conv.weight, untouched.head.conv.weight))
    assert start == good, "if better, the interpolated weights, here the initial ones; if worse, the best epoch's"
