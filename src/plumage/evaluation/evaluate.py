"""The evaluate stage: predict the test and val photos, compute the metrics, write tables, plots and the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from plumage.common import paths
from plumage.common.files import write_json
from plumage.config import Evaluate
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import typical_side
from plumage.data.split.groups import group_numbers
from plumage.errors import ModelError
from plumage.evaluation.example_photos import ExamplePhoto, load_example_photos
from plumage.evaluation.examples import Examples, choose_examples, spread_first
from plumage.evaluation.folds import folds_summary
from plumage.evaluation.held_out import HeldOut
from plumage.evaluation.intervals import DECIMALS
from plumage.evaluation.label_error_photos import with_pictures
from plumage.evaluation.label_errors import LabelErrors, Labelled, find_label_errors, label_errors_table
from plumage.evaluation.provenance import UNKNOWN, Provenance
from plumage.evaluation.report import write_report
from plumage.evaluation.result import EvaluationResult
from plumage.evaluation.sample import Sample
from plumage.evaluation.selective import coverage_curve, selective_metrics, threshold_for
from plumage.evaluation.slices import find_slices, sharpness, slice_table
from plumage.evaluation.summary import calibration_summary, summary
from plumage.evaluation.tables import write_table
from plumage.evaluation.thumbnails import load_thumbnails
from plumage.evaluation.write_plots import write_plots
from plumage.evaluation.write_tables import write_tables
from plumage.inference.predict import Outputs, predict
from plumage.inference.probabilities import probabilities
from plumage.models.saved_model import SavedModel

EXAMPLE_PHOTOS, EXAMPLE_PAIRS, EXAMPLE_CLASSES = 24, 20, 400
"""In the report: mistakes and as many unsure photos; confused pairs; classes with their best and worst photo."""
THUMBNAILS = 3_000
"""Most small pictures in the report: about 1.3 kB of the page each."""

Rows = Mapping[str, list[int]]  # the data set's rows per split: train, val, test


class Photos(NamedTuple):
    """The photos that a model was trained and is tested on."""

    dataset: Dataset
    rows: Rows
    near_duplicates: Sequence[Sequence[int]] = ()
    """Groups of rows."""


class Training(NamedTuple):
    """What the report says of how the model came about."""

    params: Mapping[str, Any]
    best_epoch: int | None = None
    """The epoch, from 1, whose weights the model has: the learning curves mark it."""
    provenance: Provenance = UNKNOWN
    held_out: HeldOut | None = None
    """What cross-validation predicted; the metrics then have `folds`."""


def evaluate(
    saved: SavedModel,
    photos: Photos,
    training: Training,
    settings: Evaluate,
    reports: Path,
    before_writing: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Evaluate the model on the rows `test` and write metrics.json, tables, plots and the report into `reports`.

    `reports` already holds history.csv. The threshold of selective prediction is chosen on the rows `val`. `before_writing`
    may raise to write nothing. Returns the content of metrics.json.

    Raises:
        ModelError: the model's classes are not the data set's.
    """
    dataset, rows, near_duplicates = photos
    if saved.classes != dataset.classes:
        raise ModelError("the model has other classes than the data set; train it on these photos")
    inputs = _Inputs(saved, dataset, rows, settings, group_numbers(near_duplicates, len(dataset)))
    predictions = _predict(inputs)
    metrics = _score(inputs, predictions)
    if held_out := training.held_out:
        row_of = {key: row for row, key in enumerate(dataset.keys)}
        groups = inputs.groups[[row_of[key] for key in held_out.keys]]
        metrics["folds"] = folds_summary(held_out, groups, settings)
    history = pd.read_csv(reports / paths.HISTORY.name)
    result = _result(inputs, predictions, metrics, history, training)
    errors = _label_errors(inputs, predictions)
    result = replace(result, label_errors=with_pictures(errors.suspects, dataset, saved.preprocessing))
    before_writing()
    write_table(reports / paths.LABEL_ERRORS.name, label_errors_table(errors.suspects, dataset, rows))
    write_tables(reports, result)
    write_plots(reports, result)
    write_report(reports, result)
    write_json(reports / paths.METRICS.name, metrics)
    return metrics


class _Inputs(NamedTuple):
    saved: SavedModel
    dataset: Dataset
    rows: Rows
    settings: Evaluate
    groups: NDArray[np.int64]  # of near-duplicates, one number per photo of the data set


class _Predictions(NamedTuple):
    """What the model predicts, for N test photos and for the val photos."""

    test: Sample
    uncalibrated: Sample  # `test` at temperature 1
    tta: Sample | None  # `test` averaged with the mirror images, if `evaluate.tta` asks for it
    val: Sample
    val_features: NDArray[np.float32]  # of the val photos, pooled
    features: NDArray[np.float32]  # N x F, pooled
    sharpness: NDArray[np.float64]  # N: the sharpness of the test photos


def _predict(inputs: _Inputs) -> _Predictions:
    saved, dataset, rows, settings, groups = inputs
    targets = dataset.targets()
    sharpnesses: list[NDArray[np.float64]] = []

    def outputs(split: str, **options: Any) -> Outputs:
        model, preprocessing = saved.model, saved.preprocessing
        return predict(model, dataset, rows[split], preprocessing, _device(), settings.batch_size, **options)

    def sample(split: str, logits: NDArray[np.float32], temperature: float = saved.temperature) -> Sample:
        calibrated = probabilities(logits, temperature)
        return Sample(targets[rows[split]], calibrated, settings.bins, groups[rows[split]])

    test = outputs("test", on_batch=lambda views: sharpnesses.append(sharpness(views.numpy())))
    val = outputs("val")
    calibrated, tta = sample("test", test.logits), None
    if settings.tta:
        mirrored = sample("test", outputs("test", mirrored=True).logits)
        mean = (calibrated.probabilities + mirrored.probabilities) / 2
        tta = replace(calibrated, probabilities=mean)
    return _Predictions(
        test=calibrated,
        uncalibrated=sample("test", test.logits, temperature=1.0),
        tta=tta,
        val=sample("val", val.logits),
        val_features=val.features,
        features=test.features,
        sharpness=np.concatenate(sharpnesses),
    )


def _label_errors(inputs: _Inputs, predictions: _Predictions) -> LabelErrors:
    """The photos of all splits whose label is likely wrong, if `evaluate.label_errors` asks for them."""
    saved, dataset, rows, settings, groups = inputs
    if not settings.label_errors:
        return LabelErrors([], [], [])
    print(f"label errors: computing the features of {len(rows['train']):,} train photos", flush=True)
    train = predict(saved.model, dataset, rows["train"], saved.preprocessing, _device(), settings.batch_size)
    chosen = [*rows["train"], *rows["val"], *rows["test"]]
    errors = find_label_errors(
        Labelled(
            keys=[dataset.keys[row] for row in chosen],
            features=np.concatenate([train.features, predictions.val_features, predictions.features]),
            labels=dataset.targets()[chosen],
            classes=dataset.classes,
            groups=groups[chosen],
        ),
        settings.seed,
    )
    for line in errors.lines():
        print(line)
    return errors


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _score(inputs: _Inputs, predictions: _Predictions) -> dict[str, Any]:
    """The content of metrics.json."""
    settings, target = inputs.settings, inputs.settings.target_accuracy
    threshold = threshold_for(target, coverage_curve(predictions.val))
    test = {
        **summary(predictions.test, resamples=settings.bootstrap, seed=settings.seed),
        "uncalibrated": calibration_summary(predictions.uncalibrated),
        "abstain": selective_metrics(predictions.test, threshold, target),
    }
    if predictions.tta is not None:
        test["tta"] = summary(predictions.tta, resamples=settings.bootstrap, seed=settings.seed)
    val_accuracy = round(float(predictions.val.correct.mean()), DECIMALS)
    return {"test": test, "temperature": inputs.saved.temperature, "val": {"accuracy": val_accuracy}}


def _result(
    inputs: _Inputs,
    predictions: _Predictions,
    metrics: Mapping[str, Any],
    history: pd.DataFrame,
    training: Training,
) -> EvaluationResult:
    saved, dataset, rows, *_ = inputs
    sample = predictions.test
    examples = choose_examples(sample, photos=EXAMPLE_PHOTOS, pairs=EXAMPLE_PAIRS, classes=EXAMPLE_CLASSES)
    properties = _properties(dataset, rows) | {"sharpness": predictions.sharpness}
    slices = find_slices(properties, sample.correct, sample.group_of)
    for worse in (each for each in slices if each.worse):
        print(f"worse: {worse}")
    return EvaluationResult(
        title=f"{saved.name} on {len(dataset.classes)} classes",
        metrics=metrics,
        split_sizes={split: len(chosen) for split, chosen in rows.items()},
        classes=dataset.classes,
        keys=[dataset.keys[row] for row in rows["test"]],
        sample=sample,
        uncalibrated=predictions.uncalibrated,
        features=predictions.features,
        slices=slice_table(slices),
        history=history,
        best_epoch=training.best_epoch,
        examples=examples,
        example_photos=_example_photos(inputs, sample, examples),
        model=saved.preprocessing.model_dump() | {"architecture": saved.name, "temperature": saved.temperature},
        params=training.params,
        train_counts=np.bincount(dataset.targets()[rows["train"]], minlength=len(dataset.classes)),
        typical_side=typical_side(dataset),
        thumbnails=_thumbnails(inputs, sample),
        provenance=training.provenance,
    )


def _example_photos(inputs: _Inputs, sample: Sample, examples: Examples) -> dict[int, ExamplePhoto]:
    """The test photos of `examples`, each with the Grad-CAM of its predicted class."""
    saved, dataset, rows, settings, _ = inputs
    indices, large = examples.indices(), {rows["test"][index] for index in examples.to_look_at()}
    chosen, classes = [rows["test"][index] for index in indices], sample.predicted[indices].tolist()
    options = (saved.preprocessing, _device(), settings.batch_size, large)
    return dict(zip(indices, load_example_photos(saved.model, dataset, chosen, classes, *options), strict=True))


def _thumbnails(inputs: _Inputs, sample: Sample) -> dict[int, bytes]:
    """Small pictures of at most THUMBNAILS test photos, mistakes first."""
    indices = spread_first(np.flatnonzero(~sample.correct), np.flatnonzero(sample.correct), THUMBNAILS).tolist()
    rows = [inputs.rows["test"][index] for index in indices]
    return dict(zip(indices, load_thumbnails(inputs.dataset, rows, inputs.saved.preprocessing), strict=True))


def _properties(dataset: Dataset, rows: Rows) -> dict[str, NDArray[np.int64]]:
    """Properties of the test photos that could make them hard, by name: N values each."""
    test, targets = rows["test"], dataset.targets()
    train_counts = np.bincount(targets[rows["train"]], minlength=len(dataset.classes))
    columns = ("width", "height", "brightness")
    width, height, brightness = (np.array(dataset.column(name), np.int64)[test] for name in columns)
    return {
        "shorter side": np.minimum(width, height),
        "brightness": brightness,
        "training photos of its class": train_counts[targets[test]],
    }
