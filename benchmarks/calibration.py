"""Temperature scaling with few val photos: `python benchmarks/calibration.py --photos ARCHIVE` prints the table in docs/outputs.md.

Each way of fitting the temperature gets the same val photos, a few per class, and is judged on photos outside of train and val.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from common import ROOT, Rows
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax
from support import calibrated_logits
from tables import table
from torch import nn

from plumage.config import Model, Train
from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.sample import SampleSource
from plumage.evaluation.calibration import reliability
from plumage.evaluation.sample import Sample
from plumage.inference.predict import predict
from plumage.training.build import new_model
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.probe import ProbeSettings, fit_classifier
from plumage.training.recipes import train_model
from plumage.training.temperature import fit_temperature

VAL_PHOTOS = (1, 2, 5, 10)
RESPLITS = 50
TRAININGS = 5
"""Probes of the real photos per number of classes, each on other train photos; a tenth of the resplits judges each."""
TRAIN_PHOTOS = 20
CPU = torch.device("cpu")


def sample_logits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of 1,650 drawn photos in 10 classes that the recipe `scratch`, with its defaults, was not trained on."""
    file = folder / "calibration-sample.npz"
    if not file.exists():
        ingest(SampleSource(10, 300, 96, 0), folder / "calibration", min_size=1, max_refused=1)
        dataset = Dataset(folder / "calibration")
        rank = np.arange(len(dataset)) % 300
        rows = {"train": rank < 128, "val": (rank >= 128) & (rank < 135), "test": rank >= 135}
        chosen = {split: np.flatnonzero(mask).tolist() for split, mask in rows.items()}
        model, preprocessing = new_model(Model(), dataset, 0, ROOT)
        train_model(model, TrainingData(dataset, chosen, preprocessing), TrainingContext(Train().resolved(), CPU))
        logits = predict(model, dataset, chosen["test"], preprocessing, CPU).logits
        np.savez(file, logits=logits, labels=dataset.targets()[chosen["test"]])
    saved = np.load(file)
    return saved["logits"], saved["labels"]


def photo_features(folder: Path, photos: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features of Lite0 with ImageNet weights, at 224 pixels, and labels of the photos in the archive."""
    file = folder / f"calibration-{photos.stem}.npz"
    if not file.exists():
        ingest(ArchiveSource(photos, folder / "unpacked"), folder / "calibration", min_size=1, max_refused=1)
        dataset = Dataset(folder / "calibration")
        wanted = Model(name="efficientnet_lite0", weights="imagenet", image_size=224)
        model, preprocessing = new_model(wanted, dataset, 0, ROOT)
        features = predict(model, dataset, range(len(dataset)), preprocessing, CPU).features
        np.savez(file, features=features, labels=dataset.targets())
    saved = np.load(file)
    return saved["features"], saved["labels"]


def fitted(logits: np.ndarray, labels: np.ndarray, way: str) -> float:
    """The temperature by one of WAYS, fitted to the val photos."""
    count, classes = logits.shape
    exact, at_label = logits.astype(np.float64), np.eye(classes)[labels]
    targets, penalty = at_label, 0.0
    kind, _, strength = way.partition(", ")
    if kind == "1":
        return 1.0
    if kind == "Platt":
        targets = at_label * (count + 1) / (count + 2) + (1 - at_label) / (count + 2) / (classes - 1)
    elif kind == "ours":
        return fit_temperature(logits, labels)
    elif kind == "log-normal":
        penalty = 1 / (2 * float(strength) ** 2 * count)
    elif kind == "imaginary":
        prior = float(strength)
        targets = (count * at_label + prior * softmax(exact, axis=1)) / (count + prior)
    target = (targets * exact).sum(axis=1)

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((logsumexp(exact * scale, axis=1) - target * scale).mean() + penalty * log_temperature**2)

    return float(np.exp(minimize_scalar(loss, bounds=np.log((0.05, 20)), method="bounded").x))


WAYS = ("1", "none", "Platt", "imaginary, 20", "log-normal, 0.5", "ours")
"""Temperature 1; no correction; Platt's smoothed labels; imaginary photos labelled as the model says; a normal prior on the logarithm of
the temperature, with its standard deviation; `fit_temperature`."""


def judge(logits: np.ndarray, labels: np.ndarray, rng: np.random.Generator, resplits: int) -> dict[int, np.ndarray]:
    """Per number of val photos per class: log loss, ECE and temperature of each resplit and way, R x W x 3, on the other photos."""
    found: dict[int, Any] = {number: [] for number in VAL_PHOTOS}
    for _ in range(resplits):
        order = rng.permutation(len(labels))
        rank = np.empty(len(labels), np.int64)  # within its class
        for label in np.unique(labels):
            own = order[labels[order] == label]
            rank[own] = np.arange(len(own))
        for number in VAL_PHOTOS:
            val, test = rank < number, rank >= max(VAL_PHOTOS)
            found[number].append([scores(logits, labels, val, test, way) for way in WAYS])
    return {number: np.array(rows) for number, rows in found.items()}


def scores(logits: np.ndarray, labels: np.ndarray, val: np.ndarray, test: np.ndarray, way: str) -> tuple[float, ...]:
    temperature = fitted(logits[val], labels[val], way)
    sample = Sample(labels[test], softmax(logits[test] / temperature, axis=1).astype(np.float32))
    return float(sample.losses.mean()), reliability(sample).ece, temperature


def probe_logits(
    features: np.ndarray, labels: np.ndarray, classes: int, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Logits and labels of the photos of some random classes that a probe, fitted to TRAIN_PHOTOS of each, has not seen."""
    chosen = rng.choice(labels.max() + 1, classes, replace=False)
    rows = np.concatenate([rng.permutation(np.flatnonzero(labels == label)) for label in chosen])
    own = np.searchsorted(np.sort(chosen), labels[rows])
    train = np.concatenate([np.flatnonzero(own == label)[:TRAIN_PHOTOS] for label in range(classes)])
    rest = np.setdiff1d(np.arange(len(rows)), train)
    inputs, targets = torch.from_numpy(features[rows]), torch.from_numpy(own)
    head = nn.Linear(features.shape[1], classes)
    fit_classifier(
        head, [(inputs[train], targets[train])], (inputs[rest], targets[rest]), ProbeSettings(), lambda *_: None
    )
    with torch.inference_mode():
        return head(inputs[rest]).numpy(), own[rest]


def rows_of(name: str, found: dict[int, np.ndarray]) -> Rows:
    """One row per number of val photos: means over the resplits, and how often each way was worse than temperature 1 by over 0.01."""
    rows = []
    for number, figures in found.items():
        row: dict[str, Any] = {"photos": name, "val photos per class": number}
        for place, way in enumerate(WAYS):
            loss, ece, temperature = figures[:, place].mean(axis=0)
            gain = figures[:, place, 0] - figures[:, 0, 0]
            row[way] = f"{loss:.3f}, {ece:.3f}" + (f" (T {temperature:.2f}, {(gain > 0.01).sum()})" if place else "")
        rows.append(row)
    return rows


def main(
    photos: Annotated[Path, typer.Option(help="archive of real photos")],
    folder: Annotated[Path, typer.Option(help="where features and logits are kept")] = ROOT / ".bench",
) -> None:
    """Print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    features, labels = photo_features(folder, photos)
    rows: Rows = []
    for classes, trainings in ((100, TRAININGS), (6, RESPLITS)):
        rng = np.random.default_rng(0)
        parts = [
            judge(*probe_logits(features, labels, classes, rng), rng, RESPLITS // trainings) for _ in range(trainings)
        ]
        joined = {number: np.concatenate([part[number] for part in parts]) for number in VAL_PHOTOS}
        rows += rows_of(f"{photos.stem}, {classes} classes", joined)
        print(table(rows), flush=True)
    drawn = calibrated_logits(3000, 6)
    rows += rows_of("drawn, calibrated, 6 classes", judge(*drawn, np.random.default_rng(0), RESPLITS))
    rows += rows_of("sample, 10 classes", judge(*sample_logits(folder), np.random.default_rng(0), RESPLITS))
    print(table(rows))


if __name__ == "__main__":
    typer.run(main)
