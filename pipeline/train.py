"""Stage train: train a model, choose its best epoch on val, log to MLflow; resumes after an interruption."""

import sys
from pathlib import Path

from _stage import run_stage
from plumage.common.paths import DATASET, SPLITS, project_root
from plumage.config import Params
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import read_split
from plumage.tracking.inputs import log_inputs
from plumage.tracking.lineage import environment
from plumage.tracking.training_run import training_run
from plumage.training.checkpoints import checkpoints, training_key
from plumage.training.distributed import ProcessGroup, join_process_group
from plumage.training.hardware import choose_device, hardware_tags
from plumage.training.launch import launch, processes
from plumage.training.recipes import new_model, train_model
from plumage.training.results import epoch_logger, save_results
from plumage.training.temperature import best_temperature
from plumage.training.trainer import Diverged


def main(params: Params) -> None:
    if (count := processes(params.train.resolved())) > 1:
        launch(count, sys.argv)
    else:
        with join_process_group() as group:
            fit(params, group)


def fit(params: Params, group: ProcessGroup) -> None:
    dataset, train, root = Dataset(DATASET), params.train.resolved(), project_root()
    rows, device = read_split(SPLITS, dataset), choose_device(train.device)
    model, preprocessing = new_model(params.model, dataset, train.seed, root)
    if not group.is_main:
        train_model(model, dataset, rows, preprocessing, train, device, group=group)
        return
    weights = Path(params.model.weights_from(root) or "")
    key = training_key(dataset.bytes_column("sha256").tobytes(), SPLITS, params.model, weights, train.decisive())
    with (
        checkpoints(root, key, train.checkpoint_minutes) as kept,
        training_run(root, params.tracking.experiment, key, params.flat(), kept.run_id) as run,
    ):
        kept.run_id = run.id
        hardware, installed = hardware_tags(train, device, group), environment()
        log_inputs(run, hardware, installed)
        log = epoch_logger(train.all_epochs, run.log_epoch)
        try:
            history, diverged = train_model(model, dataset, rows, preprocessing, train, device, log, kept, group), None
        except Diverged as error:
            history, diverged = error.history, error
        if history.epochs:
            temperature = best_temperature(model, history, dataset, rows["val"], preprocessing, device)
            facts = {"training_key": key, "hardware": hardware, "environment": installed}
            save_results(Path(), model, dataset.classes, preprocessing, temperature, history, facts)
            run.log_metrics({"best_epoch": history.best_epoch})
        if diverged:
            raise diverged


if __name__ == "__main__":
    run_stage(main)
