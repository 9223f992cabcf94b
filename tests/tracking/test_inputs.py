"""A training's inputs: one MLflow data set per split, with DVC's hash, to which metrics can refer."""

import json
from pathlib import Path

from mlflow import MlflowClient
from pipeline_outputs import KEY

from plumage.tracking.inputs import dataset_reference, log_datasets
from plumage.tracking.open_run import training_run
from plumage.tracking.resume import resume_run

PARAMS = {"train.lr": 0.01, "evaluate.bins": 15}


def test_each_split_is_a_data_set_with_the_dvc_hash(outputs: Path) -> None:
    digest = "0123456789abcdef0123456789abcdef.dir"
    Path("dvc.yaml").write_text(
        "stages: {download: {cmd: x, outs: [data/dataset]}, train: {cmd: x, deps: [data/dataset], outs: [models/m]}}"
    )
    Path("dvc.lock").write_text(
        f"stages: {{download: {{outs: [{{path: data/dataset, md5: {digest}}}]}}, "
        "train: {outs: [{path: models/m, md5: old}]}}"
    )
    Path("data/splits.csv").write_text("key,label,split\na.jpg,NA,train\nb.jpg,owl,train\nc.jpg,owl,test\n")
    with training_run(outputs, "plumage", KEY, PARAMS) as run:
        log_datasets(run)
    inputs = MlflowClient().get_run(run.id).inputs
    assert inputs is not None
    assert {(entry.dataset.name, entry.dataset.digest, entry.tags[0].value) for entry in inputs.dataset_inputs} == {
        ("photos/train", digest, "train"),
        ("photos/test", digest, "test"),
    }
    tags = MlflowClient().get_run(run.id).data.tags
    assert tags["dvc.data/dataset"] == digest and "dvc.models/m" not in tags


def test_metrics_can_refer_to_the_data_set_as_the_run_has_it(outputs: Path) -> None:
    digest = "0123456789abcdef0123456789abcdef.dir"
    references = []
    for lock in (None, f"stages: {{download: {{outs: [{{path: data/dataset, md5: {digest}}}]}}}}"):
        Path("dvc.yaml").write_text("stages: {download: {outs: [data/dataset]}, evaluate: {deps: [data/dataset]}}")
        if lock:
            Path("dvc.lock").write_text(lock)
        trained = {**json.loads(Path("models/run.json").read_text()), "training_key": str(len(references))}
        Path("models/run.json").write_text(json.dumps(trained))
        with resume_run(outputs, "plumage", PARAMS, "evaluate") as run:
            pass
        references.append(dataset_reference(run, "test"))
        inputs = MlflowClient().get_run(run.id).inputs
        assert inputs is not None
        assert references[-1] in {(entry.dataset.name, entry.dataset.digest) for entry in inputs.dataset_inputs}
        assert dataset_reference(run, "val") is None
    without_dvc, with_dvc = references
    assert without_dvc is not None and without_dvc[0] == "photos/test"
    assert with_dvc == ("photos/test", digest) != without_dvc
