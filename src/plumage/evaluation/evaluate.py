"""A model on the test photos: what the evaluate stage writes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from plumage.accelerate.inference import probabilities
from plumage.common.files import write_json
from plumage.config import Evaluate
from plumage.data.dataset.store import Dataset
from plumage.errors import ModelError
from plumage.evaluation.calibration import coverage_curve, selective_metrics, threshold_for
from plumage.evaluation.example_photos import ShownPhoto, show_photos
from plumage.evaluation.examples import choose_photos
from plumage.evaluation.metrics import Ints, accuracy, class_ranges, class_scores, confusion_matrix, reliability
from plumage.evaluation.pictures import write_pictures
from plumage.evaluation.report import write_report
from plumage.evaluation.result import EvaluationResult
from plumage.evaluation.slices import find_slices, sharpness
from plumage.evaluation.summary import calibration, summary
from plumage.evaluation.tables import write_confusion, write_per_class, write_predictions, write_slices
from plumage.inference.predict import Outputs, predict
from plumage.models.saved_model import SavedModel

SHOWN_PHOTOS, SHOWN_PAIRS, SHOWN_CLASSES = 24, 20, 400
"""In the report: mistakes and as many unsure hits, confused pairs, and classes with their best and worst photo."""


def evaluate(
    saved: SavedModel,
    dataset: Dataset,
    rows: dict[str, list[int]],
    settings: Evaluate,
    reports: Path,
    shown: Mapping[str, Any],
) -> dict[str, Any]:
    """Judge the model on the rows `test` (and `val`), and write figures, tables, pictures and the report into `reports`.

    `reports` holds history.csv already; the report shows the parameters `shown`. Returns the content of metrics.json.
    ModelError when the model has other classes.
    """
    sharp: list[NDArray[np.float64]] = []
    outputs = _predict(
        saved, dataset, rows["test"], settings, on_batch=lambda views: sharp.append(sharpness(views.numpy()))
    )
    targets, classes = dataset.targets(), dataset.classes
    truth, val_truth = targets[rows["test"]], targets[rows["val"]]
    test, plain = (_probabilities(outputs, temperature) for temperature in (saved.temperature, 1.0))
    val = _probabilities(_predict(saved, dataset, rows["val"], settings), saved.temperature)
    threshold = threshold_for(settings.target_accuracy, coverage_curve(val, val_truth))
    metrics: dict[str, Any] = {
        "test": {
            **summary(test, truth, bins=settings.bins, resamples=settings.bootstrap, seed=settings.seed),
            "uncalibrated": calibration(plain, truth, settings.bins),
            "abstain": selective_metrics(test, truth, threshold, settings.target_accuracy),
        },
        "temperature": saved.temperature,
        "val": {"accuracy": round(accuracy(val, val_truth), 6)},
    }
    if settings.tta:
        mirror = _probabilities(_predict(saved, dataset, rows["test"], settings, mirrored=True), saved.temperature)
        metrics["test"]["tta"] = summary(
            (test + mirror) / 2, truth, bins=settings.bins, resamples=settings.bootstrap, seed=settings.seed
        )
    predicted = test.argmax(axis=1)
    confusion = confusion_matrix(truth, predicted, len(classes))
    write_confusion(reports / "confusion.csv", confusion, classes)
    per_class = write_per_class(reports / "per_class.csv", class_scores(confusion), class_ranges(confusion), classes)
    values = _sliced_by(dataset, rows, targets) | {"sharpness": np.concatenate(sharp)}
    slices = find_slices(values, predicted == truth)
    slice_table = write_slices(reports / "slices.csv", slices)
    for worse in (part for part in slices if part.worse):
        print(f"worse: {worse}")
    write_predictions(reports / "predictions.csv", [dataset.keys[row] for row in rows["test"]], truth, test, classes)
    gallery = choose_photos(truth, test, photos=SHOWN_PHOTOS, pairs=SHOWN_PAIRS, classes=SHOWN_CLASSES)
    curve = coverage_curve(test, truth)
    judged = EvaluationResult(
        title=f"{saved.name} on {len(classes)} classes",
        metrics=metrics,
        parts={part: len(chosen) for part, chosen in rows.items()},
        classes=classes,
        keys=[dataset.keys[row] for row in rows["test"]],
        labels=truth,
        probabilities=test,
        features=outputs.features,
        per_class=per_class,
        slices=slice_table,
        reliability={
            "before calibration": reliability(plain, truth, settings.bins),
            "after": reliability(test, truth, settings.bins),
        },
        coverage=(curve.coverage, curve.accuracy),
        history=pd.read_csv(reports / "history.csv"),
        gallery=gallery,
        photos=_photos(saved, dataset, rows["test"], gallery.shown(), predicted, settings.batch_size),
        model=saved.preprocessing.model_dump() | {"architecture": saved.name, "temperature": saved.temperature},
        params=shown,
    )
    write_pictures(reports, judged)
    write_report(reports / "report.html", judged, reports / "plots" / "history.png")
    write_json(reports / "metrics.json", metrics)
    return metrics


def _predict(
    saved: SavedModel,
    dataset: Dataset,
    rows: list[int],
    settings: Evaluate,
    mirrored: bool = False,
    on_batch: Callable[[torch.Tensor], None] = lambda views: None,
) -> Outputs:
    if saved.classes != dataset.classes:
        raise ModelError("the model knows other classes than the data set has; train it on these photos")
    return predict(saved.model, dataset, rows, saved.preprocessing, _device(), settings.batch_size, mirrored, on_batch)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _probabilities(outputs: Outputs, temperature: float) -> NDArray[np.float32]:
    of_photos: NDArray[np.float32] = probabilities(torch.from_numpy(outputs.logits), temperature).numpy()
    return of_photos


def _photos(
    saved: SavedModel, dataset: Dataset, rows: list[int], places: list[int], predicted: Ints, batch_size: int
) -> dict[int, ShownPhoto]:
    """The photos at `places` of `rows`, each with what speaks for its predicted class."""
    chosen, classes = [rows[place] for place in places], predicted[places].tolist()
    shown = show_photos(saved.model, dataset, chosen, classes, saved.preprocessing, _device(), batch_size)
    return dict(zip(places, shown, strict=True))


def _sliced_by(
    dataset: Dataset, rows: dict[str, list[int]], targets: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """What is known of each test photo that could make it hard."""
    test = rows["test"]
    of_class = np.bincount(targets[rows["train"]], minlength=len(dataset.classes))
    columns = {name: np.array(dataset.column(name), np.int64)[test] for name in ("width", "height", "brightness")}
    return {
        "shorter side": np.minimum(columns["width"], columns["height"]),
        "brightness": columns["brightness"],
        "training photos of its class": of_class[targets[test]],
    }
