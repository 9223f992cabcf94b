"""Stage evaluate: metrics, tables, plots and the report of the model on the test photos, logged to the MLflow run."""

from _stage import run_stage
from plumage.common import paths
from plumage.common.project import project_root
from plumage.config import Params
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import read_near_duplicates, read_split
from plumage.evaluation.evaluate import evaluate
from plumage.models.saved_model import load_model
from plumage.tracking.resume import log_evaluation_files, resume_run


def main(params: Params) -> None:
    dataset, rows = read_split(paths.SPLITS, Dataset(paths.DATASET))
    near_duplicates = read_near_duplicates(paths.SPLIT_REPORT, dataset)
    logged = params.flat(but="register")
    with resume_run(project_root(), params.tracking.experiment, logged, "evaluate") as run:
        saved, reports = load_model(paths.MODELS), paths.REPORTS
        metrics = evaluate(saved, dataset, rows, params.evaluate, reports, logged, near_duplicates)
        log_evaluation_files(run)
    test, interval = metrics["test"], metrics["test"]["accuracy_ci95"]
    print(
        f"test accuracy {test['accuracy']:.3f} ({interval['low']:.3f} to {interval['high']:.3f}), {test['n']:,} photos"
    )


if __name__ == "__main__":
    run_stage(main)
