"""Stage evaluate: metrics, tables, plots and the report of the model on the test photos, logged to the MLflow run."""

from _stage import run_stage
from plumage.common import paths
from plumage.common.figures import share
from plumage.common.files import read_output
from plumage.common.project import project_root
from plumage.config import Params
from plumage.data.dataset.store import Dataset
from plumage.data.split.groups import group_numbers
from plumage.data.split.splits_file import read_split
from plumage.evaluation.evaluate import evaluate
from plumage.models.saved_model import load_model
from plumage.tracking.resume import log_evaluation_files, resume_run


def main(params: Params) -> None:
    dataset = Dataset(paths.DATASET)
    rows = read_split(paths.SPLITS, dataset)
    groups = group_numbers(read_output(paths.SPLIT_REPORT), dataset.keys)
    logged = params.flat(but="register")
    with resume_run(project_root(), params.tracking.experiment, logged, "evaluate") as run:
        metrics = evaluate(load_model(paths.MODELS), dataset, rows, params.evaluate, paths.REPORTS, logged, groups)
        log_evaluation_files(run)
    test, interval = metrics["test"], metrics["test"]["accuracy_ci95"]
    accuracy, low, high = (share(value, test["n"]) for value in (test["accuracy"], interval["low"], interval["high"]))
    print(f"test accuracy {accuracy} (95%: {low} to {high}), {test['n']:,} photos")


if __name__ == "__main__":
    run_stage(main)
