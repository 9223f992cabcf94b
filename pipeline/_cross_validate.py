"""The work of stage folds, apart from it because of what it imports."""

import sys

from plumage.common.files import read_output
from plumage.common.paths import DATASET, FOLDS, RUN, SPLIT_REPORT, SPLITS
from plumage.common.project import project_root
from plumage.config import Model, ResolvedTrain
from plumage.data.dataset.store import Dataset
from plumage.data.split.folds import draw_folds
from plumage.data.split.splits_file import read_near_duplicates, read_split
from plumage.data.split.stratified import Photos
from plumage.evaluation.cross_validation import CrossValidation, announcement
from plumage.evaluation.held_out import write_held_out
from plumage.stage_inputs import StageInputs
from plumage.training.checkpoints import open_checkpoints, training_key
from plumage.training.context import TrainingContext
from plumage.training.distributed import ProcessGroup, join_process_group
from plumage.training.duration import recorded_seconds
from plumage.training.hardware import choose_device
from plumage.training.launch import launch, num_processes


def cross_validate(inputs: StageInputs, num_folds: int, seed: int, model: Model, train: ResolvedTrain) -> None:
    if (count := num_processes(train)) > 1:
        launch(count, sys.argv)
    else:
        with join_process_group() as group:
            # Each process has read params.yaml for itself, perhaps after an edit.
            run(inputs, *group.broadcast((num_folds, seed, model, train)), group)


def run(
    inputs: StageInputs, num_folds: int, seed: int, model: Model, train: ResolvedTrain, group: ProcessGroup
) -> None:
    dataset, split = read_split(SPLITS, Dataset(DATASET))
    root, device = project_root(), choose_device(train.device)
    ids = [row.tobytes() for row in dataset.bytes_column("sha256")]
    groups = read_near_duplicates(SPLIT_REPORT, dataset)
    drawn = draw_folds(Photos(dataset.keys, dataset.labels, ids, groups), split, num_folds, seed)
    if not group.is_main:
        CrossValidation(model, dataset, drawn.folds, TrainingContext(train, device, group), root).run()
        return
    seconds = recorded_seconds(root, read_output(RUN)["training_key"])
    print(*announcement(drawn, train, len(split["train"]), seconds), sep="\n", flush=True)
    weights = model.weights_from(root)
    photos = dataset.bytes_column("sha256").tobytes()
    key = training_key("folds", num_folds, seed, photos, SPLITS, SPLIT_REPORT, model, weights, train.decisive())
    with open_checkpoints(root, key, train.checkpoint_minutes) as checkpoints:
        context = TrainingContext(train, device, group, checkpoints)
        held_out = CrossValidation(model, dataset, drawn.folds, context, root).run()
        inputs.check()  # within checkpoints: the folds' results are kept
        write_held_out(FOLDS, held_out, dataset.classes)
