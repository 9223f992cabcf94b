"""The evaluate stage as a whole: its files agree with one another and with the model."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from plumage.config import Evaluate
from plumage.data.dataset.store import Dataset
from plumage.errors import ModelError
from plumage.evaluation.evaluate import Photos, Training, evaluate
from plumage.evaluation.predictions import compute_predictions
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import load_model, save_model

SETTINGS = Evaluate(batch_size=8, bootstrap=200)


@pytest.fixture
def trained(color_dataset: Callable[[int], Dataset], tmp_path: Path) -> tuple[Dataset, dict[str, list[int]], Path]:
    """A data set of 24 photos, its splits, and a folder with a model of its classes and a history."""
    dataset = color_dataset(6)
    rows = {split: [i for i in range(len(dataset)) if i % 3 == n] for n, split in enumerate(("train", "val", "test"))}
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", len(dataset.classes))
    save_model(tmp_path / "models", model, dataset.classes, Preprocessing(size=32, crop_fraction=1), temperature=1.5)
    (tmp_path / "history.csv").write_text("epoch,train/loss,train/lr,val/loss,val/accuracy\n1,1.4,0.1,1.3,0.5\n")
    return dataset, rows, tmp_path


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_files_agree(trained: tuple[Dataset, dict[str, list[int]], Path]) -> None:
    dataset, rows, folder = trained
    metrics = evaluate(
        load_model(folder / "models"), Photos(dataset, rows), Training({"train.lr": 0.1}), SETTINGS, folder
    )
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    predictions = read_table(folder / "predictions.csv")
    assert [row["key"] for row in predictions] == [dataset.keys[row] for row in rows["test"]]
    accuracy = np.mean([row["pred_1"] == row["label"] for row in predictions])
    assert metrics["test"]["accuracy"] == pytest.approx(accuracy)
    assert metrics["test"]["n"] == len(rows["test"]) == 8
    confusion = read_table(folder / "confusion.csv")
    assert sum(int(row["count"]) for row in confusion) == 8
    assert sum(int(row["count"]) for row in confusion if row["actual"] == row["predicted"]) == round(accuracy * 8)
    per_class = read_table(folder / "per_class.csv")
    assert [row["label"] for row in per_class] == dataset.classes
    assert sum(int(row["support"]) for row in per_class) == 8
    assert metrics["test"]["macro_f1"] == pytest.approx(np.mean([float(row["f1"]) for row in per_class]), abs=1e-5)
    assert metrics["temperature"] == 1.5
    assert metrics["test"]["uncalibrated"].keys() == {"loss", "ece", "adaptive_ece", "brier"}
    assert metrics["test"]["uncalibrated"]["loss"] != metrics["test"]["loss"]
    mean_loss = -np.mean(np.log([float(row["prob_label"]) for row in predictions]))
    assert metrics["test"]["loss"] == pytest.approx(mean_loss, abs=1e-5), "tables hold calibrated probabilities"
    answered = np.array([float(row["prob_1"]) >= metrics["test"]["abstain"]["threshold"] - 1e-6 for row in predictions])
    assert metrics["test"]["abstain"]["coverage"] == pytest.approx(answered.mean())
    slices = read_table(folder / "slices.csv")
    assert {row["slice"] for row in slices} <= {
        "shorter side",
        "brightness",
        "sharpness",
        "training photos of its class",
    }
    assert sum(int(row["n"]) for row in slices if row["slice"] == "sharpness") == 8
    assert "tta" not in metrics["test"]
    predicted = compute_predictions(folder / "models", dataset, rows["val"], dataset.classes)
    accuracy = np.mean([name == dataset.labels[row] for name, row in zip(predicted, rows["val"], strict=True)])
    assert metrics["val"]["accuracy"] == pytest.approx(accuracy)
    for name in ("confusion", "classes", "reliability", "coverage", "embedding", "mistakes", "unsure", "history"):
        with Image.open(folder / "plots" / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert dataset.classes[0] in (folder / "report.html").read_text(encoding="utf-8")


def test_test_time_augmentation_is_reported_in_addition(
    trained: tuple[Dataset, dict[str, list[int]], Path],
) -> None:
    dataset, rows, folder = trained
    plain = evaluate(load_model(folder / "models"), Photos(dataset, rows), Training({}), SETTINGS, folder)
    predictions = (folder / "predictions.csv").read_bytes()
    both = evaluate(
        load_model(folder / "models"),
        Photos(dataset, rows),
        Training({}),
        SETTINGS.model_copy(update={"tta": True}),
        folder,
    )
    tta = both["test"].pop("tta")
    assert both == plain and (folder / "predictions.csv").read_bytes() == predictions
    assert tta["n"] == 8 and tta["loss"] != plain["test"]["loss"]


def test_evaluating_twice_gives_the_same_bytes(trained: tuple[Dataset, dict[str, list[int]], Path]) -> None:
    dataset, rows, folder = trained

    def contents() -> dict[str, bytes]:
        evaluate(load_model(folder / "models"), Photos(dataset, rows), Training({"train.lr": 0.1}), SETTINGS, folder)
        paths = (path for path in folder.rglob("*") if path.is_file() and "dataset" not in path.parts)
        return {str(path): path.read_bytes() for path in paths}

    assert contents() == contents()


def test_a_model_with_other_classes_is_an_error(trained: tuple[Dataset, dict[str, list[int]], Path]) -> None:
    dataset, rows, folder = trained
    model = create_model("efficientnet_lite0", 4)
    save_model(folder / "models", model, ["a", "b", "c", "d"], Preprocessing(size=32, crop_fraction=1))
    with pytest.raises(ModelError, match="other classes"):
        evaluate(load_model(folder / "models"), Photos(dataset, rows), Training({}), SETTINGS, folder)
    assert not (folder / "metrics.json").exists()
