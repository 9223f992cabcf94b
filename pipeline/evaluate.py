"""Stage evaluate: the model on the test photos: figures, tables, pictures and the report; added to the MLflow run."""

from pathlib import Path

from _stage import run_stage
from plumage.common.paths import project_root
from plumage.config import Params
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import read_split
from plumage.evaluation.evaluate import evaluate
from plumage.models.saved_model import load_model
from plumage.tracking.evaluation_files import log_evaluation_files
from plumage.tracking.resume import resume_run


def main(params: Params) -> None:
    dataset = Dataset(Path("data/dataset"))
    rows = read_split(Path("data/splits.csv"), dataset)
    reports, shown = Path("reports"), params.flat(but="register")
    with resume_run(project_root(), params.tracking.experiment, shown, "evaluate") as run:
        metrics = evaluate(load_model(Path("models")), dataset, rows, params.evaluate, reports, shown)
        log_evaluation_files(run)
    test, interval = metrics["test"], metrics["test"]["accuracy_ci95"]
    print(
        f"test accuracy {test['accuracy']:.3f} ({interval['low']:.3f} to {interval['high']:.3f}), {test['n']:,} photos"
    )


if __name__ == "__main__":
    run_stage(main)
