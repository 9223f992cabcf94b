"""A run that the store lacks comes back from the files that DVC tracks: whole, marked, and once."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from plumage.tracking.resume import resume_run
from plumage.tracking.runs import RESTORED_FROM, training_run

PARAMS = {"train.lr": 0.01, "evaluate.bins": 15}
TRAINED = "0123456789abcdef0123456789abcdef"
FILES = {
    "params.yaml": "train: {lr: 0.01}\n",
    "data/splits.csv": "key,label,split\na.jpg,owl,train\nb.jpg,jay,test\n",
    "reports/data.json": '{"source": "sample"}\n',
    "reports/history.csv": "epoch,train/loss,val/accuracy\n1,2.0,0.5\n2,1.0,0.75\n",
    "reports/metrics.json": '{"test": {"accuracy": 0.9, "accuracy_ci95": {"low": 0.8, "high": 1.0}}, "val": {"accuracy": 0.75}}',
    "reports/per_class.csv": "label,f1\nowl,0.9\njay,0.9\n",
    "reports/slices.csv": "slice,group\n",
    "reports/predictions.csv": "key,label,prob_label\nb.jpg,jay,0.9\n",
    "reports/confusion.csv": "actual,predicted,count\njay,jay,1\n",
    "reports/report.html": "<p>birds</p>",
    "reports/plots/recall.png": "no picture",
}


@pytest.fixture
def outputs(root: Path) -> Path:
    """`root` with what the stages up to evaluate have written elsewhere."""
    trained = {
        "run_id": TRAINED,
        "choices": {"plumage.device": "a GPU elsewhere"},
        "best_epoch": 2,
        "environment": {"packages": {"torch": "2.9.0"}, "machine": {"processor": "another"}},
    }
    for name, content in {**FILES, "models/run.json": json.dumps(trained)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def points(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    names = client.get_run(run_id).data.metrics
    return {name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)] for name in names}


def test_it_has_the_figures_files_inputs_and_environment_of_the_one_that_is_not_there(outputs: Path) -> None:
    with resume_run(outputs, "plumage", PARAMS, "register") as run:
        assert "evaluate" not in run.stages
    client = MlflowClient()
    found = client.get_run(run.id)
    assert found.data.tags[RESTORED_FROM] == TRAINED and found.data.tags["plumage.device"] == "a GPU elsewhere"
    assert found.data.params == {"train.lr": "0.01", "evaluate.bins": "15"} and found.info.status == "FINISHED"
    figures = points(client, run.id)
    assert figures["train/loss"] == [(1, 2.0), (2, 1.0)] and figures["val/accuracy"] == [(1, 0.5), (2, 0.75)]
    assert figures["test/accuracy"] == [(0, 0.9)]
    files = {file.path for file in client.list_artifacts(run.id)}
    assert {
        "params.yaml",
        "data.json",
        "packages.txt",
        "machine.json",
        "plots",
        "report.html",
        "per_class.json",
    } <= files
    assert Path(client.download_artifacts(run.id, "packages.txt")).read_text() == "torch==2.9.0\n"
    assert found.inputs is not None
    assert {data.dataset.name for data in found.inputs.dataset_inputs} == {"photos/train", "photos/test"}


def test_again_adds_nothing(outputs: Path) -> None:
    seen = []
    for _ in range(3):
        with resume_run(outputs, "plumage", PARAMS, "register") as run:
            pass
        found = MlflowClient().get_run(run.id)
        assert found.inputs is not None
        seen.append((run.id, points(MlflowClient(), run.id), len(found.inputs.dataset_inputs), found.data.tags))
    assert seen[0] == seen[1] == seen[2]


def test_one_whose_restoring_was_cut_off_is_completed_in_the_same_run(outputs: Path) -> None:
    (outputs / "reports" / "data.json").rename(outputs / "kept.json")
    with pytest.raises(FileNotFoundError), resume_run(outputs, "plumage", PARAMS, "register"):
        pass
    (outputs / "kept.json").rename(outputs / "reports" / "data.json")
    with resume_run(outputs, "plumage", PARAMS, "register") as run:
        pass
    client = MlflowClient()
    experiment = client.get_experiment_by_name("plumage")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_id == run.id
    assert points(client, run.id)["train/loss"] == [(1, 2.0), (2, 1.0)]


def test_a_run_that_is_there_is_gone_on_with(outputs: Path) -> None:
    with training_run(outputs, "plumage", PARAMS) as run:
        run.log_history(Path("reports/history.csv"))
    trained = json.loads((outputs / "models" / "run.json").read_text())
    (outputs / "models" / "run.json").write_text(json.dumps({**trained, "run_id": run.id}))
    with resume_run(outputs, "plumage", PARAMS, "evaluate") as again:
        pass
    assert again.id == run.id and RESTORED_FROM not in MlflowClient().get_run(run.id).data.tags
