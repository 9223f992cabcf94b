"""A run that the store lacks is restored from the files that DVC tracks: completely, marked as restored, and once."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from pipeline_outputs import KEY, write_outputs

from plumage.common.paths import RUN
from plumage.errors import PipelineError
from plumage.tracking.open_run import training_run
from plumage.tracking.resume import resume_run
from plumage.tracking.run import Run
from plumage.tracking.tags import DVC_EXPERIMENT, RESTORED, STAGE, TRAINING_KEY

PARAMS = {"train.lr": 0.01, "evaluate.bins": 15}
OTHER_BINS = {**PARAMS, "evaluate.bins": 10}


def points(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    names = client.get_run(run_id).data.metrics
    return {name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)] for name in names}


def train(root: Path, key: str = KEY) -> str:
    with training_run(root, "plumage", key, PARAMS) as run:
        run.log_history(Path("reports/history.csv"))
    return run.id


def resume(root: Path, stage: str, params: dict[str, object] = PARAMS, experiment: str = "plumage") -> Run:
    with resume_run(root, experiment, params, stage) as run:
        pass
    return run


def runs() -> dict[str, MlflowRun]:
    """Active runs of all experiments, by id."""
    client = MlflowClient()
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return {run.info.run_id: run for run in found}


def test_it_has_the_metrics_files_inputs_and_environment_of_the_missing_run(outputs: Path) -> None:
    with resume_run(outputs, "plumage", PARAMS, "register") as run:
        assert "evaluate" not in run.stages
    client = MlflowClient()
    found = client.get_run(run.id)
    assert found.data.tags[TRAINING_KEY] == KEY and found.data.tags["plumage.restored"] == "true"
    assert found.data.tags["plumage.device"] == "a GPU elsewhere"
    assert found.data.params == {"train.lr": "0.01", "evaluate.bins": "15"} and found.info.status == "FINISHED"
    metrics = points(client, run.id)
    assert metrics["train/loss"] == [(1, 2.0), (2, 1.0)] and metrics["val/accuracy"] == [(1, 0.5), (2, 0.75)]
    assert metrics["test/accuracy"] == [(0, 0.9)]
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


def test_repeating_it_adds_nothing(outputs: Path) -> None:
    seen = []
    for _ in range(3):
        run = resume(outputs, "register")
        found = MlflowClient().get_run(run.id)
        assert found.inputs is not None
        seen.append((run.id, points(MlflowClient(), run.id), len(found.inputs.dataset_inputs), found.data.tags))
    assert seen[0] == seen[1] == seen[2]


def test_an_interrupted_restore_is_completed_in_the_same_run(outputs: Path) -> None:
    (outputs / "reports" / "data.json").rename(outputs / "kept.json")
    with pytest.raises(FileNotFoundError):
        resume(outputs, "register")
    (outputs / "kept.json").rename(outputs / "reports" / "data.json")
    run = resume(outputs, "register")
    assert list(runs()) == [run.id]
    assert points(MlflowClient(), run.id)["train/loss"] == [(1, 2.0), (2, 1.0)]


def test_a_run_that_the_store_has_is_continued(outputs: Path) -> None:
    trained = train(outputs)
    assert resume(outputs, "evaluate").id == trained
    assert RESTORED not in runs()[trained].data.tags


def test_after_a_forced_training_register_completes_the_new_run_and_leaves_the_old_one(outputs: Path) -> None:
    first = train(outputs)
    for stage in ("evaluate", "register"):
        assert resume(outputs, stage).id == first
    before = MlflowClient().get_run(first).to_dictionary()
    second = train(outputs)
    for _ in range(2):
        assert resume(outputs, "register").id == second != first
    assert set(runs()) == {first, second} and RESTORED not in runs()[second].data.tags
    assert runs()[second].data.metrics["test/accuracy"] == 0.9 and f"{STAGE}evaluate" in runs()[second].data.tags
    assert MlflowClient().get_run(first).to_dictionary() == before


def test_after_a_forced_training_other_evaluate_parameters_still_get_their_own_run(outputs: Path) -> None:
    first, second = train(outputs), train(outputs)
    third = resume(outputs, "evaluate", OTHER_BINS).id
    assert third not in (first, second) and RESTORED in runs()[third].data.tags
    assert resume(outputs, "register", OTHER_BINS).id == third
    assert resume(outputs, "evaluate").id == second


def test_a_repeated_training_that_was_cut_off_is_not_the_run_of_the_model(outputs: Path) -> None:
    finished = train(outputs)
    with pytest.raises(KeyboardInterrupt), training_run(outputs, "plumage", KEY, PARAMS):
        raise KeyboardInterrupt
    assert resume(outputs, "evaluate").id == finished


def test_a_deleted_run_gives_way_to_an_older_one_and_then_to_a_restored_one(outputs: Path) -> None:
    first, second = train(outputs), train(outputs)
    MlflowClient().delete_run(second)
    assert resume(outputs, "evaluate").id == first
    MlflowClient().delete_run(first)
    assert RESTORED in MlflowClient().get_run(resume(outputs, "evaluate").id).data.tags


def test_runs_of_other_trainings_and_of_other_mlflow_experiments_are_not_found(outputs: Path) -> None:
    other = train(outputs, "fedcba9876543210")
    here = resume(outputs, "evaluate").id
    assert here != other
    assert resume(outputs, "evaluate", experiment="owls").id not in (here, other)


def test_experiments_that_share_a_training_have_a_run_each(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = train(outputs)
    experiments = {"puffy-owl": OTHER_BINS, "vocal-jay": {**PARAMS, "evaluate.bins": 5}}
    made = {}
    for name, params in experiments.items():
        monkeypatch.setenv("DVC_EXP_NAME", name)
        made[name] = resume(outputs, "evaluate", params).id
        assert resume(outputs, "register", params).id == made[name]
    assert set(runs()) == {trained, *made.values()} and len(runs()) == 3
    for name, run_id in made.items():
        assert runs()[run_id].info.run_name == runs()[run_id].data.tags[DVC_EXPERIMENT] == name


def test_an_experiment_in_a_copy_uses_the_runs_of_the_original_repository(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, copy = train(outputs), outputs / ".dvc/tmp/exps/copy"
    write_outputs(copy)
    monkeypatch.chdir(copy)
    assert resume(outputs, "evaluate").id == trained
    restored = resume(outputs, "evaluate", OTHER_BINS).id
    shutil.rmtree(copy)
    monkeypatch.chdir(outputs)
    assert resume(outputs, "register", OTHER_BINS).id == restored  # after `dvc exp apply`
    assert set(runs()) == {trained, restored}


@pytest.mark.parametrize(("content", "problem"), [("{}", "is not what the train stage writes"), ("{", "is damaged")])
def test_a_damaged_run_json_is_one_line(outputs: Path, content: str, problem: str) -> None:
    RUN.write_text(content)
    with pytest.raises(PipelineError, match=rf"models/run\.json {problem}"):
        resume(outputs, "evaluate")
