"""Stage evaluate: metrics, tables, plots and the report of the model on the test photos, logged to the MLflow run."""

from _stage import run_stage
from plumage.common import paths
from plumage.common.project import project_root
from plumage.config import Params
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import read_split
from plumage.evaluation.evaluate import evaluate
from plumage.models.saved_model import load_model
from plumage.tracking.resume import log_evaluation_files, resume_run


def main(params: Params) -> None:
    dataset, rows = read_split(paths.SPLITS, Dataset(paths.DATASET))
    logged = params.flat(but="register")
    with resume_run(project_root(), params.tracking.experiment, logged, "evaluate") as run:
        metrics = evaluate(load_model(paths.MODELS), dataset, rows, params.evaluate, paths.REPORTS, logged)
        log_evaluation_files(run)
    test, interval = metrics["test"], metrics["test"]["accuracy_ci95"]
    print(
        f"test accuracy {test['accuracy']:.3f} ({interval['low']:.3f} to {interval['high']:.3f}), {test['n']:,} photos"
    )


if __name__ == "__main__":
    run_stage(main)
