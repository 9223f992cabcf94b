"""A model on the test photos: what the evaluate stage writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from plumage.config import Evaluate
from plumage.data.store import Dataset
from plumage.errors import ModelError
from plumage.evaluation.confusion_plot import plot_confusion
from plumage.evaluation.metrics import accuracy, class_scores, confusion_matrix, reliability, summary
from plumage.evaluation.plots import plot_history, plot_recall, plot_reliability
from plumage.evaluation.predict import predict
from plumage.evaluation.report import write_report
from plumage.evaluation.tables import write_confusion, write_per_class, write_predictions
from plumage.files import write_json
from plumage.models.bundle import Bundle, load_model


def evaluate(
    bundle: Bundle,
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
    probabilities = {part: _predict(bundle, dataset, rows[part], settings) for part in ("test", "val")}
    labels = {part: dataset.targets()[rows[part]] for part in ("test", "val")}
    test, truth, classes = probabilities["test"], labels["test"], dataset.classes
    metrics = {
        "test": summary(test, truth, ece_bins=settings.bins, resamples=settings.bootstrap, seed=settings.seed),
        "val": {"accuracy": round(accuracy(probabilities["val"], labels["val"]), 6)},
    }
    confusion = confusion_matrix(truth, test.argmax(axis=1), len(classes))
    scores = class_scores(confusion)
    write_confusion(reports / "confusion.csv", confusion, classes)
    write_per_class(reports / "per_class.csv", scores, classes)
    write_predictions(reports / "predictions.csv", [dataset.keys[row] for row in rows["test"]], truth, test, classes)
    plots = reports / "plots"
    plot_confusion(plots / "confusion.png", confusion, classes)
    plot_reliability(plots / "reliability.png", reliability(test, truth, settings.bins))
    plot_recall(plots / "recall.png", scores, classes)
    plot_history(plots / "history.png", pd.read_csv(reports / "history.csv"))
    write_report(
        reports / "report.html",
        title=f"{bundle.name} on {len(classes)} classes",
        metrics=metrics,
        parts={part: len(chosen) for part, chosen in rows.items()},
        classes=classes,
        confusion=confusion,
        pictures={
            "Confusion matrix of the test photos": plots / "confusion.png",
            "Recall by class": plots / "recall.png",
            "Reliability: confidence against accuracy": plots / "reliability.png",
            "Training": plots / "history.png",
        },
        model=bundle.preprocessing.model_dump() | {"architecture": bundle.name},
        params=shown,
    )
    write_json(reports / "metrics.json", metrics)
    return metrics


def accuracy_of(folder: Path, dataset: Dataset, rows: list[int]) -> float:
    """The accuracy on `rows` of the model saved in `folder`. ModelError when it knows other classes."""
    return accuracy(_predict(load_model(folder), dataset, rows, Evaluate()), dataset.targets()[rows])


def _predict(bundle: Bundle, dataset: Dataset, rows: list[int], settings: Evaluate) -> NDArray[np.float32]:
    if bundle.classes != dataset.classes:
        raise ModelError("the model knows other classes than the data set has; train it on these photos")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return predict(bundle.model, dataset, rows, bundle.preprocessing, device, settings.batch_size)
