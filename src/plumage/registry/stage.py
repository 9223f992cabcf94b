"""What the register stage and `plumage register` do: the model, with all that is known of it, into MLflow's registry."""

import csv
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plumage.config import Register
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import read_split, rows_hash
from plumage.models.saved_model import DESCRIPTION_FILE, load_model, read_description
from plumage.registry.gate import Gate, sentences
from plumage.registry.lineage_query import LOCK_FILE, METRICS_FILE, PARAMS_FILE
from plumage.registry.model_card import ModelCardData, model_card
from plumage.registry.register import CARD_FILE, register
from plumage.registry.training_photos import TRAINING_PHOTOS_FILE, write_training_photos
from plumage.tracking.lineage import write_lineage
from plumage.tracking.resume import resume_run

MODELS, REPORTS = Path("models"), Path("reports")


def register_outputs(
    root: Path, experiment: str, settings: Register, similarity: float | None, params: Mapping[str, Any]
) -> dict[str, Any]:
    """Register the model that lies in the working directory; return the content of reports/registry.json.

    `root` is the repository's, `similarity` that of near-duplicates (split.similarity), `params` what the run shows
    (flat). A run or version that the store lacks is brought back from the files that DVC tracks; one that it has is added
    to no second time.

    Raises:
        PlumageError: the store can't be reached, or a file can't be read.
    """
    dataset = Dataset(Path("data/dataset"))
    rows = read_split(Path("data/splits.csv"), dataset)
    metrics = _json(REPORTS / "metrics.json")
    with (
        resume_run(root, experiment, params, "register") as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        environment = _json(MODELS / "run.json")["environment"]
        kept = write_lineage(Path(folder), Path.cwd(), environment)
        for path in (Path(PARAMS_FILE), Path(LOCK_FILE), REPORTS / METRICS_FILE):
            if path.is_file():
                kept.append(Path(shutil.copy(path, folder)))
        training_photos, card = Path(folder, TRAINING_PHOTOS_FILE), Path(folder, CARD_FILE)
        write_training_photos(training_photos, dataset, [*rows["train"], *rows["val"]])
        card_data = ModelCardData(
            name=settings.model_name,
            description=read_description(MODELS / DESCRIPTION_FILE),
            parameters=sum(parameter.numel() for parameter in load_model(MODELS).model.parameters()),
            params=params,
            data=_json(REPORTS / "data.json"),
            parts={part: len(chosen) for part, chosen in rows.items()},
            metrics=metrics,
            per_class=_table(REPORTS / "per_class.csv"),
            slices=_table(REPORTS / "slices.csv"),
            lineage={"run": run.id, **run.lineage},
            machine=environment["machine"],
        )
        card.write_text(model_card(card_data), encoding="utf-8")
        return register(
            root,
            run,
            model_name=settings.model_name,
            model_dir=MODELS,
            metrics=metrics,
            test_hash=rows_hash(dataset, rows["test"]),
            predictions=REPORTS / "predictions.csv",
            training_photos=training_photos,
            gate=Gate(settings, dataset, rows["test"], similarity),
            card=card,
            kept=kept,
        )


def verdict(outcome: Mapping[str, Any]) -> str:
    """What reports/registry.json says, for people."""
    aliases = ", ".join(f"@{alias}" for alias in outcome["aliases"]) or "no alias"
    first = f"{outcome['name']} version {outcome['version']} ({aliases}): {outcome['decision']['reason']}"
    return "\n".join([first, *(f"  {sentence}" for sentence in sentences(outcome["decision"]))])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
