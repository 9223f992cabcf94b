"""What another program left in the environment or the process neither redirects a run nor spoils it."""

import os
import subprocess
import sys
from importlib import reload
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

import plumage.tracking
from plumage.errors import TrackingError
from plumage.tracking.execution import Execution, begin_execution
from plumage.tracking.open_run import training_run
from plumage.tracking.store import connect
from plumage.tracking.tags import GIT_COMMIT

PARAMS = {"train.lr": 0.01}
SITECUSTOMIZE = """
import mlflow
mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("theirs")
mlflow.autolog(silent=True)
"""
STAGE = """
from pathlib import Path
from sklearn.decomposition import PCA
from plumage.tracking.open_run import training_run
run_id = None
for _ in range(2):  # the second reopens the run
    with training_run(Path.cwd(), "plumage", "key", {"train.lr": 0.01}, run_id) as run:
        PCA(1).fit([[0, 1], [1, 0], [2, 2]])
        run_id = run.id
"""


def test_leftover_variables_redirect_no_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, theirs = MlflowClient(f"sqlite:///{root}/mlflow.db"), connect(root, "theirs")
    foreign = client.create_run(theirs).info.run_id
    leftover = {
        "MLFLOW_RUN_ID": foreign,
        "MLFLOW_EXPERIMENT_ID": theirs,
        "MLFLOW_EXPERIMENT_NAME": "theirs",
        "MLFLOW_ACTIVE_MODEL_ID": "m-0123456789abcdef0123456789abcdef",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    }
    for name, value in leftover.items():
        monkeypatch.setenv(name, value)
    with training_run(root, "plumage", "key", PARAMS) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        assert client.get_run(run.id).data.params == {"train.lr": "0.01"}  # at once
    ours = client.get_run(run.id)
    assert ours.info.experiment_id != theirs and ours.data.metrics["train/loss"] == 1.0
    untouched = client.get_run(foreign)
    assert untouched.info.status == "RUNNING" and not untouched.data.params and not untouched.data.metrics
    assert {name: os.environ.get(name) for name in leftover} == leftover  # for the program that they are for
    assert begin_execution(root, "plumage", "key", PARAMS, "evaluate").runs()[0].info.run_id == run.id


def test_the_name_of_an_experiment_counts_at_its_commit(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-owl")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "a" * 40)
    inside, outside = (Execution(root, "1", "key", PARAMS, {GIT_COMMIT: letter * 40}) for letter in "ab")
    assert inside.dvc_experiment == "puffy-owl" and outside.dvc_experiment is None


@pytest.mark.slow
def test_autologging_and_an_experiment_of_a_sitecustomize_add_nothing_to_a_run(root: Path) -> None:
    (root / "site").mkdir()
    (root / "site/sitecustomize.py").write_text(SITECUSTOMIZE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "site"), *sys.path])}
    subprocess.run([sys.executable, "-c", STAGE], env=environment, check=True)
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiments = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    [run] = client.search_runs(list(experiments.values()))
    assert run.info.experiment_id == experiments["plumage"] and "theirs" in experiments
    assert run.data.params == {"train.lr": "0.01"} and "estimator_name" not in run.data.tags


def test_a_run_that_is_open_already_is_named(root: Path) -> None:
    with mlflow.start_run(experiment_id=connect(root, "theirs")) as other:
        expected = f"MLflow run {other.info.run_id} is open in this process; end it first"
        with pytest.raises(TrackingError, match=expected), training_run(root, "plumage", "key", PARAMS):
            pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "soon"),
        ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "many"),
        ("MLFLOW_TRUNCATE_LONG_VALUES", "no"),
    ],
)
def test_a_variable_with_an_impossible_value_is_named(
    name: str, value: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(TrackingError) as caught:
        connect(root, "plumage")
    assert name in str(caught.value) and value in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("given", "used"), [("debug", "DEBUG"), ("loud", "WARNING"), ("", "WARNING")])
def test_any_logging_level_lets_mlflow_start(given: str, used: str) -> None:
    code = "import plumage.tracking, os; print(os.environ['MLFLOW_LOGGING_LEVEL'].upper())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MLFLOW_LOGGING_LEVEL": given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == used


def test_a_program_that_imports_mlflow_keeps_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "MLFLOW_LOGGING_LEVEL")
    for name in ours:
        monkeypatch.setenv(name, "before")
        monkeypatch.delenv(name)
    reload(plumage.tracking)  # which MLflow's entry point imports in every program
    assert not set(ours) & set(os.environ)
    monkeypatch.delitem(sys.modules, "mlflow")
    reload(plumage.tracking)
    assert set(ours) <= set(os.environ)
