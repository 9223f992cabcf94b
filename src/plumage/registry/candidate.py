"""The model in the working directory, with all that the registry keeps of it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from plumage.common import paths
from plumage.common.files import read_output, sha256, write_text
from plumage.common.tables import read_rows
from plumage.data.dataset.store import Dataset
from plumage.models.description import DESCRIPTION_FILE, WEIGHTS_FILE, read_description
from plumage.models.model_files import read_model
from plumage.registry.model_card import ModelCardData, model_card
from plumage.registry.training_photos import TRAINING_PHOTOS_FILE, write_training_photos
from plumage.tracking.lineage import publishable, write_lineage
from plumage.tracking.resume import flatten_metrics
from plumage.tracking.run import Run

CARD_FILE = "MODEL_CARD.md"


@dataclass(frozen=True)
class Candidate:
    """A trained and evaluated model, and the files that its version keeps."""

    folder: Path
    """Holds its weights and description."""
    epoch: int
    """The epoch, from 1, that the weights come from."""
    metrics: Mapping[str, Any]
    """The content of reports/metrics.json."""
    predictions: Path
    """Its predictions.csv for the test photos; its run has the same file."""
    training_photos: Path
    """Its training_photos.parquet."""
    card: Path
    """Its model card."""
    from_sample: bool
    """Whether it was trained on the sample."""
    provenance: Sequence[Path]
    """Read by `plumage lineage` and `plumage reproduce`: parameters, dvc.lock, metrics, packages, machine, changes."""

    @cached_property
    def classes(self) -> list[str]:
        """The model's classes."""
        return read_description(self.folder / DESCRIPTION_FILE).classes

    @cached_property
    def file_hashes(self) -> dict[str, str]:
        """The SHA-256 of each of the model's files, by its name."""
        return {file: sha256(self.folder / file) for file in (WEIGHTS_FILE, DESCRIPTION_FILE)}

    @cached_property
    def provenance_hashes(self) -> dict[str, str]:
        """The SHA-256 of each file that a version keeps unchanged besides the model, by its name."""
        return {file.name: sha256(file) for file in (self.training_photos, *self.provenance)}

    @cached_property
    def model_hash(self) -> str:
        """Identifies the model: equal when both files are equal."""
        return hashlib.sha256("".join(self.file_hashes.values()).encode()).hexdigest()

    @cached_property
    def flat_metrics(self) -> dict[str, float]:
        """The metrics by their MLflow names, without the ends of their intervals."""
        return {name: value for name, value in flatten_metrics(self.metrics).items() if "_ci95" not in name}

    @property
    def test_metrics(self) -> dict[str, float]:
        """Those of `flat_metrics` that are measured on the test photos."""
        return {name: value for name, value in self.flat_metrics.items() if name.startswith("test/")}


def collect_candidate(
    folder: Path, run: Run, name: str, dataset: Dataset, rows: Mapping[str, list[int]], params: Mapping[str, Any]
) -> Candidate:
    """Collect the model in the working directory and its reports. The files that it lacks are written to `folder`.

    `name` is the registered model's, `rows` the photos of each split, `params` flat (`section.key`).

    Raises:
        PlumageError: a file can't be read.
    """
    metrics, trained = read_output(paths.METRICS), read_output(paths.RUN)
    training_photos, card = folder / TRAINING_PHOTOS_FILE, folder / CARD_FILE
    data = read_output(paths.DATA_REPORT)
    write_training_photos(training_photos, dataset, [*rows["train"], *rows["val"]])
    card_data = ModelCardData(
        name=name,
        description=read_description(paths.DESCRIPTION),
        parameters=read_model(paths.MODELS).num_parameters,
        params=params,
        data=data,
        split_sizes={split: len(chosen) for split, chosen in rows.items()},
        metrics=metrics,
        per_class=_table(paths.PER_CLASS),
        slices=_table(paths.SLICES),
        lineage={"run": run.id, **run.lineage},
        machine=trained["environment"]["machine"],
    )
    write_text(card, model_card(card_data))
    written = write_lineage(folder, Path.cwd(), trained["environment"])
    settings = [publishable(path, folder) for path in (paths.PARAMS, paths.DVC_LOCK) if path.is_file()]
    return Candidate(
        folder=paths.MODELS,
        epoch=trained["best_epoch"],
        metrics=metrics,
        predictions=paths.PREDICTIONS,
        training_photos=training_photos,
        card=card,
        from_sample=data.get("source") == "sample",
        provenance=[*written, *settings, paths.METRICS],
    )


def _table(path: Path) -> list[dict[str, str]]:
    return list(read_rows(path)) if path.is_file() else []
