"""Stage evaluate: metrics, tables, plots and the report of the model on the test photos, logged to the MLflow run."""

from pathlib import Path

from _stage import run_stage
from plumage.common import paths
from plumage.common.figures import share
from plumage.common.files import read_output
from plumage.common.project import project_root
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import read_near_duplicates, read_split
from plumage.evaluation.evaluate import Photos, Training, evaluate
from plumage.evaluation.folds import describe_folds
from plumage.evaluation.held_out import read_held_out
from plumage.evaluation.provenance import provenance
from plumage.models.saved_model import load_model
from plumage.stage_inputs import StageInputs
from plumage.tracking.lineage import locked_hashes
from plumage.tracking.resume import log_evaluation_files, resume_run


def main(inputs: StageInputs) -> None:
    params = inputs.params
    dataset, rows = read_split(paths.SPLITS, Dataset(paths.DATASET))
    logged = params.flat("register")
    with resume_run(project_root(), params.tracking.experiment, logged, "evaluate") as run:
        photos = Photos(dataset, rows, read_near_duplicates(paths.SPLIT_REPORT, dataset))
        training = Training(
            params=logged,
            best_epoch=read_output(paths.RUN)["best_epoch"],
            provenance=provenance(Path.cwd(), locked_hashes(paths.DVC_LOCK)),
            held_out=read_held_out(paths.FOLDS, dataset),
        )
        metrics = evaluate(
            load_model(paths.MODELS), photos, training, params.evaluate, paths.REPORTS, before_writing=inputs.check
        )
        inputs.check()
        log_evaluation_files(run)
        inputs.check()
    test, interval = metrics["test"], metrics["test"]["accuracy_ci95"]
    accuracy, low, high = (share(value, test["n"]) for value in (test["accuracy"], interval["low"], interval["high"]))
    print(f"test accuracy {accuracy} (95%: {low} to {high}), {test['n']:,} photos")
    if about_folds := describe_folds(metrics):
        print(about_folds)


if __name__ == "__main__":
    run_stage(main)
