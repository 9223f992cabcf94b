"""Stage train: train a model, choose its best epoch on val, log to MLflow; resumes after an interruption."""

import sys

from _stage import run_stage
from plumage.common.paths import DATASET, SPLITS
from plumage.common.project import project_root
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import read_split
from plumage.registry.class_change import announce_before_training
from plumage.stage_inputs import StageInputs
from plumage.tracking.inputs import log_inputs
from plumage.tracking.machine import environment
from plumage.tracking.open_run import training_run
from plumage.training.build import new_model
from plumage.training.checkpoints import open_checkpoints, training_key
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.distributed import ProcessGroup, join_process_group
from plumage.training.duration import timed
from plumage.training.hardware import choose_device, hardware_tags
from plumage.training.launch import launch, num_processes
from plumage.training.recipes import train_model
from plumage.training.results import epoch_logger, save_results
from plumage.training.state import DivergedError


def main(inputs: StageInputs) -> None:
    if (count := num_processes(inputs.params.train.resolved())) > 1:
        launch(count, sys.argv)
    else:
        with join_process_group() as group:
            fit(inputs, group)


def fit(inputs: StageInputs, group: ProcessGroup) -> None:
    params = group.broadcast(inputs.params)  # edited while the processes start, it may differ
    dataset, rows = read_split(SPLITS, Dataset(DATASET))
    train, root = params.train.resolved(), project_root()
    device = choose_device(train.device)
    model, preprocessing = new_model(params.model, dataset, train.seed, root)
    data = TrainingData(dataset, rows, preprocessing)
    if not group.is_main:
        train_model(model, data, TrainingContext(train, device, group))
        return
    weights = params.model.weights_from(root)
    key = training_key(dataset.bytes_column("sha256").tobytes(), SPLITS, params.model, weights, train.decisive())
    with (
        open_checkpoints(root, key, train.checkpoint_minutes) as checkpoints,
        training_run(
            root, params.tracking.experiment, key, params.flat("evaluate", "register"), checkpoints.run_id
        ) as run,
    ):
        resumed, checkpoints.run_id = checkpoints.run_id is not None, run.id
        announce_before_training(params, dataset.classes)
        hardware, packages = hardware_tags(train, device, group), environment()
        log_inputs(run, hardware, packages)
        log = epoch_logger(train.all_epochs, run.log_epoch)
        try:
            with timed(root, key, resumed):
                history = train_model(model, data, TrainingContext(train, device, group, checkpoints, log))
            diverged = None
        except DivergedError as error:
            history, diverged = error.history, error
        inputs.check()  # within checkpoints and run: the training is kept, and its run ends as failed
        if history.epochs:
            about = {"training_key": key, "hardware": hardware, "environment": packages}
            save_results(model, data, history, device, about)
            run.log_metrics({"best_epoch": history.best_epoch})
        inputs.check()
        if diverged:
            raise diverged


if __name__ == "__main__":
    run_stage(main)
