"""Finding flipped labels: `python benchmarks/label_errors.py PHOTOS`, an archive of class folders. Prints a table.

A share of the labels is flipped to the class that the clean probe confuses theirs with most. The features are computed once, kept in
--folder, and not part of the time.
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from common import ROOT
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tables import table

from plumage.config import Model
from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.archive import ArchiveSource
from plumage.evaluation.label_errors import Labelled, cross_validated, find_label_errors, margins
from plumage.inference.predict import predict
from plumage.training.build import new_model

FIRST = (20, 50, 100)


def main(
    photos: Annotated[Path, typer.Argument(help="archive of real photos in class folders")],
    folder: Annotated[Path, typer.Option(help="where the features are kept")] = ROOT / ".bench",
    flipped: Annotated[float, typer.Option(help="share of the labels")] = 0.08,
    seeds: Annotated[int, typer.Option(help="number of draws")] = 5,
) -> None:
    """Print one row per seed."""
    folder.mkdir(parents=True, exist_ok=True)
    features, labels, classes = features_of(photos, folder)
    keys = [f"{number:07}" for number in range(len(labels))]
    clean = cross_validated(Labelled(keys, features, labels, classes), 0)
    confused = np.zeros((len(classes), len(classes)))
    np.add.at(confused, labels, clean)
    np.fill_diagonal(confused, 0)
    rows = []
    for seed in range(seeds):
        chosen = np.random.default_rng(seed).permutation(len(labels))[: round(flipped * len(labels))]
        wrong = np.zeros(len(labels), bool)
        wrong[chosen] = True
        given = np.where(wrong, confused.argmax(1)[labels], labels)
        rows.append({"seed": seed} | measure(Labelled(keys, features, given, classes), labels, wrong, seed))
        print(rows[-1], flush=True)
    print(table(rows))


def measure(photos: Labelled, truth: NDArray[np.int64], wrong: NDArray[np.bool_], seed: int) -> dict[str, float]:
    started = time.perf_counter(), time.process_time()
    found = find_label_errors(photos, seed).suspects
    seconds, processor = time.perf_counter() - started[0], time.process_time() - started[1]
    rows = np.array([int(each.key) for each in found])
    probabilities = cross_validated(photos, seed)
    others = probabilities.copy()
    others[np.arange(len(truth)), photos.labels] = -1
    auroc = roc_auc_score(wrong, margins(probabilities, photos.labels, others.argmax(1)))
    right = [each.suggested == photos.classes[truth[row]] for each, row in zip(found, rows, strict=True) if wrong[row]]
    first = {f"precision, first {count}": float(wrong[rows[:count]].mean()) for count in FIRST}
    return {
        "photos": len(truth), "flipped": int(wrong.sum()), "seconds": seconds, "processor seconds": processor, "AUROC": float(auroc),
        "listed": len(rows), "precision": float(wrong[rows].mean()), "recall": float(wrong[rows].sum() / wrong.sum()), **first,
        "suggestion right": float(np.mean(right)),
    }  # fmt: skip


def features_of(photos: Path, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
    """Features of Lite0 with ImageNet weights, N x F, labels, N, and class names."""
    kept = folder / f"{photos.stem}-features.npz"
    if not kept.is_file():
        ingest(ArchiveSource(photos, folder / "unpacked"), folder / "label_errors", min_size=1, max_refused=1)
        dataset = Dataset(folder / "label_errors")
        model, preprocessing = new_model(Model(name="efficientnet_lite0", weights="imagenet"), dataset, 0, ROOT)
        features = predict(model, dataset, range(len(dataset)), preprocessing, "cpu").features
        np.savez(kept, features=features, labels=dataset.targets(), classes=np.array(dataset.classes))
    with np.load(kept) as file:
        return file["features"], file["labels"], file["classes"].tolist()


if __name__ == "__main__":
    typer.run(main)
