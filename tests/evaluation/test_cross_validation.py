"""Cross-validation: held-out labels change nothing, an interrupted one goes on to the same answer, costs are announced."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from plumage.config import Model, Train
from plumage.data.dataset.store import Dataset
from plumage.data.split.folds import Folds, draw_folds
from plumage.data.split.stratified import Photos, stratified_split
from plumage.errors import TrainingError
from plumage.evaluation import cross_validation
from plumage.evaluation.cross_validation import CrossValidation, announcement
from plumage.evaluation.held_out import HeldOut
from plumage.training.checkpoints import Checkpoints
from plumage.training.context import TrainingContext

CPU = torch.device("cpu")
PROBE = {"recipe": "probe", "epochs": 20, "flip": False}
SCRATCH = {"recipe": "scratch", "epochs": 1, "batch_size": 16}
MakeDataset = Callable[[int], Dataset]


class Relabelled:
    """A data set in which some photos have another label."""

    def __init__(self, dataset: Dataset, rows: Sequence[int]) -> None:
        self._dataset, self._rows = dataset, list(rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def targets(self) -> np.ndarray:
        targets = self._dataset.targets().copy()
        targets[self._rows] = (targets[self._rows] + 1) % len(self._dataset.classes)
        return targets


@dataclass
class Setup:
    dataset: Dataset
    train: dict[str, Any]
    folds: Folds = field(init=False)

    def __post_init__(self) -> None:
        ids = [row.tobytes() for row in self.dataset.bytes_column("sha256")]
        photos = Photos(self.dataset.keys, self.dataset.labels, ids, [])
        splits = stratified_split(photos, 0.2, 0.2, 0)
        split = {name: [row for row, each in enumerate(splits) if each == name] for name in ("train", "val", "test")}
        self.folds = draw_folds(photos, split, 3, 0)

    def run(self, checkpoints: Checkpoints | None = None, dataset: Any = None) -> HeldOut:
        weights = None if self.train["recipe"] == "scratch" else "imagenet"
        model = Model(name="efficientnet_lite0", weights=weights, image_size=32)
        train = Train(device="cpu", **self.train).resolved()
        context = TrainingContext(train, CPU, checkpoints=checkpoints)
        return CrossValidation(model, dataset or self.dataset, self.folds.folds, context, Path()).run()


@pytest.fixture(params=[PROBE, SCRATCH], ids=["probe", "scratch"])
def setup(request: pytest.FixtureRequest, color_dataset: MakeDataset) -> Setup:
    return Setup(color_dataset(6), request.param)


def test_the_labels_of_held_out_photos_change_no_answer(setup: Setup) -> None:
    first = setup.folds.folds[0]["test"]
    setup.folds = replace_first(setup.folds)
    answers, relabelled = setup.run(), setup.run(dataset=Relabelled(setup.dataset, first))
    assert np.array_equal(answers.sample.probabilities, relabelled.sample.probabilities)
    assert not np.array_equal(answers.sample.labels, relabelled.sample.labels)


def replace_first(folds: Folds) -> Folds:
    """Only the first fold."""
    return folds._replace(folds=folds.folds[:1])


def test_an_interrupted_cross_validation_goes_on_to_the_same_answer(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = setup.run()
    name = "fit_probe" if setup.train["recipe"] == "probe" else "train_model"
    train, calls = getattr(cross_validation, name), []

    def interrupted(*arguments: Any) -> Any:
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(cross_validation, name, interrupted)
    (tmp_path / "key").mkdir()
    with pytest.raises(KeyboardInterrupt):
        setup.run(Checkpoints(tmp_path / "key"))
    capsys.readouterr()
    resumed = setup.run(Checkpoints(tmp_path / "key"))
    assert len(calls) == 4, "the first fold's training is not repeated"
    assert "fold 1 of 3: accuracy" in (said := capsys.readouterr().out) and "photos, kept" in said
    assert resumed.keys == expected.keys
    assert np.array_equal(resumed.sample.probabilities, expected.sample.probabilities)
    assert not [path for path in (tmp_path / "key").iterdir() if path.is_dir()], (
        "a finished fold keeps only its answers"
    )


def test_a_failed_training_names_its_fold(color_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise TrainingError("the loss is not finite")

    monkeypatch.setattr(cross_validation, "train_model", fail)
    with pytest.raises(TrainingError, match="fold 1 of 3: the loss is not finite"):
        Setup(color_dataset(6), SCRATCH).run()


def test_the_cost_is_said_beforehand() -> None:
    fold = {"train": [0] * 150, "val": [0] * 10, "test": [0] * 40}
    scratch, probe = Train().resolved(), Train(recipe="probe").resolved()
    folds = Folds([fold] * 5, {})
    assert announcement(folds, scratch, 100, 60.0) == [
        "cross-validation: 200 photos in 5 folds, each with a training; about 0:07:30 in all (the last training took 0:01:00)"
    ]
    assert "the first fold shows how long" in announcement(folds, scratch, 100, None)[0]
    assert "computed once" in announcement(folds, probe, 100, None)[0]
    _, small = announcement(replace_small(folds), probe, 100, None)
    assert small == "fewer photos than folds: 'wren' 2; some folds hold out none of these"


def replace_small(folds: Folds) -> Folds:
    return folds._replace(small_classes={"wren": 2})
