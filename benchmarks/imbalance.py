"""Class weights on long-tailed photos: macro recall and plain accuracy, for the probe and for fine-tuning.

    python benchmarks/imbalance.py PHOTOS FOLDER [--recipe finetune] [--seeds 3]

PHOTOS is an archive with the splits train and valid. Each seed draws training photos whose classes shrink exponentially,
the largest RATIO times the smallest (Cui et al. 2019), in random order of the classes. All of valid is for testing.
"""

import statistics
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from common import ROOT
from numpy.typing import NDArray
from torch import nn

from plumage.config import Model, Train
from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.archive import ArchiveSource
from plumage.inference.predict import predict
from plumage.training import class_weights as weighting
from plumage.training.batches import Batch, eval_batches
from plumage.training.build import new_model
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.forward import extract_features
from plumage.training.probe import ProbeSettings, fit_classifier
from plumage.training.recipes import train_model

RATIO = 20
KINDS = {
    "none": ("none", 0.0), "balanced": ("balanced", 0.0), "effective, beta 0.9": ("effective", 0.9),
    "effective, beta 0.99": ("effective", 0.99), "effective, beta 0.999": ("effective", 0.999),
}  # fmt: skip
MODEL = Model(name="efficientnet_lite0", weights="imagenet")
CPU = torch.device("cpu")
Rows = NDArray[np.int64]
Recipe = Literal["probe", "finetune"]


def main(
    photos: Annotated[Path, typer.Argument(help="archive of photos with the splits train and valid")],
    folder: Annotated[Path, typer.Argument(help="folder for the data set and the features, kept for the next run")],
    recipe: Annotated[Recipe, typer.Option()] = "probe",
    seeds: Annotated[int, typer.Option()] = 5,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help=f"of {'; '.join(KINDS)}; default: all")] = None,
    image_size: Annotated[int, typer.Option(help="pixels; for fine-tuning")] = 128,
) -> None:
    """Print one row per kind of weights: mean and standard deviation over seeds."""
    if not (folder / "dataset").is_dir():
        ingest(ArchiveSource(photos, folder / "unpacked"), folder / "dataset", min_size=1, max_refused=1)
    dataset = Dataset(folder / "dataset")
    official = np.array(dataset.official_splits)
    pool, test = (np.flatnonzero(official == split) for split in ("train", "val"))
    features = cached_features(dataset, folder) if recipe == "probe" else None
    for name, (kind, beta) in [(name, KINDS[name]) for name in kinds or KINDS]:
        weighting.BETA = beta
        scores = []
        for seed in range(seeds):
            rows = long_tailed(dataset.targets(), pool, seed)
            settings = Train(recipe=recipe, class_weights=kind, seed=seed)
            if features:
                predicted = probe(settings, features, rows, test, len(dataset.classes))
            else:
                predicted = finetune(settings.model_copy(update={"soup": 1}), dataset, rows, test, image_size)
            scores.append(score(dataset.targets(), rows, test, predicted))
            print(
                f"  {name}, seed {seed}, {len(rows)} photos: " + ", ".join(f"{s:.4f}" for s in scores[-1]), flush=True
            )
        columns = [f"{statistics.mean(each):.3f} ± {statistics.stdev(each):.3f}" for each in zip(*scores, strict=True)]
        print(f"| {name} | {' | '.join(columns)} |", flush=True)


def long_tailed(targets: Rows, pool: Rows, seed: int) -> Rows:
    """Rows of `pool`, sorted: the class at place i of C has RATIO^(-i / (C - 1)) of the photos of the first."""
    rng = np.random.default_rng(seed)
    classes = rng.permutation(targets.max() + 1)
    counts = np.bincount(targets[pool])
    sizes = np.round(counts.min() * RATIO ** -np.linspace(0, 1, len(classes))).astype(int)
    drawn = [
        rng.choice(pool[targets[pool] == label], size, replace=False)
        for label, size in zip(classes, sizes, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def score(targets: Rows, rows: Rows, test: Rows, predicted: Rows) -> tuple[float, float, float]:
    """Macro recall; that of the third of the classes with the fewest training photos; accuracy if test photos were as
    unequally distributed as training photos."""
    labels, counts = targets[test], np.bincount(targets[rows])
    recalls = np.bincount(labels[predicted == labels], minlength=len(counts)) / np.bincount(labels)
    rarest = np.argsort(counts, kind="stable")[: len(counts) // 3]
    return float(recalls.mean()), float(recalls[rarest].mean()), float(recalls @ counts / counts.sum())


def cached_features(dataset: Dataset, folder: Path) -> tuple[Batch, Batch]:
    """Features and labels of all photos, and of their mirror images, in the data set's order."""
    file = folder / "features.pt"
    if not file.is_file():
        model, preprocessing = new_model(MODEL, dataset, 0, ROOT)
        context = TrainingContext(Train(recipe="probe").resolved(), CPU)
        data = TrainingData(dataset, {"all": list(range(len(dataset)))}, preprocessing)
        batches = [eval_batches(data, "all", context, mirrored) for mirrored in (False, True)]
        torch.save([extract_features(model.eval(), each, context, "features") for each in batches], file)
    plain, mirrored = torch.load(file, weights_only=True)
    return plain, mirrored


def probe(settings: Train, views: tuple[Batch, Batch], rows: Rows, test: Rows, num_classes: int) -> Rows:
    """Predicted classes of the rows `test`."""
    chosen = [(features[rows], labels[rows]) for features, labels in views]
    classifier = nn.Linear(views[0][0].shape[1], num_classes)
    weights = weighting.class_weights(settings.class_weights, chosen[0][1], num_classes)
    fit_classifier(classifier, chosen, (views[0][0][:1], views[0][1][:1]), ProbeSettings(), lambda *_: None, weights)
    return np.asarray(classifier(views[0][0][test]).argmax(1))


def finetune(settings: Train, dataset: Dataset, rows: Rows, test: Rows, image_size: int) -> Rows:
    """Predicted classes of the rows `test`. Val, on which the refitted classifier is accepted, is a tenth of each class."""
    targets, train = dataset.targets(), settings.resolved()
    val = np.concatenate([of_class[: len(of_class) // 10] for of_class in by_class(targets, rows)])
    data = {"train": np.setdiff1d(rows, val).tolist(), "val": val.tolist()}
    model, preprocessing = new_model(MODEL.model_copy(update={"image_size": image_size}), dataset, train.seed, ROOT)
    train_model(model, TrainingData(dataset, data, preprocessing), TrainingContext(train, CPU))
    return predict(model, dataset, test.tolist(), preprocessing, CPU).logits.argmax(axis=1)


def by_class(targets: Rows, rows: Rows) -> list[Rows]:
    return [rows[targets[rows] == label] for label in np.unique(targets[rows])]


if __name__ == "__main__":
    typer.run(main)
