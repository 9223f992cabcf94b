"""Stage register: the model into MLflow's registry, once; champion when the gate lets it."""

import json
import tempfile
from pathlib import Path

from _stage import run_stage
from plumage.config import Params
from plumage.data.split import read_split, rows_hash
from plumage.data.store import Dataset
from plumage.data.training_photos import TRAINING_PHOTOS_FILE, write_training_photos
from plumage.files import write_json
from plumage.project import project_root
from plumage.tracking.gate import Gate, sentences
from plumage.tracking.registry import register
from plumage.tracking.reports import log_evaluation
from plumage.tracking.runs import continued_run


def main(params: Params) -> None:
    dataset = Dataset(Path("data/dataset"))
    rows = read_split(Path("data/splits.csv"), dataset)
    run_id = json.loads(Path("models/run.json").read_text(encoding="utf-8"))["run_id"]
    root, reports, shown = project_root(), Path("reports"), params.flat(but="register")
    experiment, history = params.tracking.experiment, reports / "history.csv"
    with (
        continued_run(root, experiment, run_id, shown, "register", history) as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        if "evaluate" not in run.stages:  # the run was restored just now
            log_evaluation(run, reports)
        training_photos = Path(folder, TRAINING_PHOTOS_FILE)
        write_training_photos(training_photos, dataset, [*rows["train"], *rows["val"]])
        outcome = register(
            root,
            run,
            model_name=params.register_.model_name,
            model_dir=Path("models"),
            metrics=json.loads((reports / "metrics.json").read_text(encoding="utf-8")),
            test_hash=rows_hash(dataset, rows["test"]),
            predictions=reports / "predictions.csv",
            training_photos=training_photos,
            gate=Gate(params.register_, dataset, rows["test"], params.split.similarity),
        )
    write_json(reports / "registry.json", outcome)
    aliases = ", ".join(f"@{alias}" for alias in outcome["aliases"]) or "no alias"
    print(f"{outcome['name']} version {outcome['version']} ({aliases}): {outcome['decision']['reason']}")
    for sentence in sentences(outcome["decision"]):
        print(f"  {sentence}")


if __name__ == "__main__":
    run_stage(main)
