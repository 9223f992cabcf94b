"""One run for one pipeline execution, whatever is repeated, skipped or restored; and never one that stays RUNNING."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from plumage.tracking.runs import RESTORED_FROM, Stage, continued_run, training_run

PARAMS = {"train.lr": 0.01, "evaluate.bins": 15}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    path = tmp_path / "history.csv"
    path.write_text("epoch,train/loss,val/accuracy\n1,2.0,0.5\n2,1.0,0.75\n")
    return path


def train(root: Path, history: Path, params: Mapping[str, object] = PARAMS) -> str:
    with training_run(root, "plumage", params) as run:
        run.log_history(history)
    return run.id


def go_on(
    root: Path, run_id: str, params: Mapping[str, object], stage: Stage, history: Path, accuracy: float = 0.9
) -> str:
    with continued_run(root, "plumage", run_id, params, stage, lambda run: run.log_history(history)) as run:
        run.log_metrics({"test/accuracy": accuracy})
    return run.id


def store(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root}/mlflow.db")


def all_runs(root: Path) -> list[MlflowRun]:
    client = store(root)
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def test_an_execution_is_one_finished_run(root: Path, history: Path) -> None:
    run_id = train(root, history)
    assert go_on(root, run_id, PARAMS, "evaluate", history) == run_id
    assert go_on(root, run_id, PARAMS, "register", history) == run_id
    [run] = all_runs(root)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.lr": "0.01", "evaluate.bins": "15"}
    assert run.data.metrics["val/accuracy"] == 0.75 and run.data.metrics["test/accuracy"] == 0.9
    assert [(point.step, point.value) for point in MlflowClient().get_metric_history(run_id, "train/loss")] == [
        (1, 2.0),
        (2, 1.0),
    ]


def test_a_repeated_stage_adds_to_the_same_run(root: Path, history: Path) -> None:
    run_id = train(root, history)
    go_on(root, run_id, PARAMS, "evaluate", history, accuracy=0.8)
    assert go_on(root, run_id, PARAMS, "evaluate", history, accuracy=0.9) == run_id
    [run] = all_runs(root)
    assert run.data.metrics["test/accuracy"] == 0.9


def test_other_evaluate_parameters_are_an_execution_of_their_own(root: Path, history: Path) -> None:
    run_id = train(root, history)
    go_on(root, run_id, PARAMS, "evaluate", history, accuracy=0.8)
    other = {**PARAMS, "evaluate.bins": 10}
    second = go_on(root, run_id, other, "evaluate", history, accuracy=0.9)
    assert go_on(root, run_id, other, "register", history) == second != run_id
    assert go_on(root, run_id, other, "evaluate", history) == second
    runs = {run.info.run_id: run.data for run in all_runs(root)}
    assert set(runs) == {run_id, second}
    assert runs[run_id].metrics["test/accuracy"] == 0.8 and runs[run_id].params["evaluate.bins"] == "15"
    assert runs[second].params["evaluate.bins"] == "10" and runs[second].metrics["train/loss"] == 1.0
    assert runs[second].tags[RESTORED_FROM] == run_id


def test_a_store_that_lacks_the_run_gets_one_restored_from_it(root: Path, history: Path) -> None:
    elsewhere = "0123456789abcdef0123456789abcdef"
    first = go_on(root, elsewhere, PARAMS, "evaluate", history)
    assert go_on(root, elsewhere, PARAMS, "register", history) == first
    [run] = all_runs(root)
    assert run.data.tags[RESTORED_FROM] == elsewhere and run.data.metrics["val/accuracy"] == 0.75


def test_an_interrupted_training_goes_on_in_its_run_and_logs_each_epoch_once(root: Path, history: Path) -> None:
    with pytest.raises(KeyboardInterrupt), training_run(root, "plumage", PARAMS) as run:
        run.log_epoch(1, {"train/loss": 2.0, "val/accuracy": 0.5})
        raise KeyboardInterrupt
    with training_run(root, "plumage", PARAMS, run.id) as again:
        for epoch, loss in ((1, 2.0), (2, 1.0)):
            again.log_epoch(epoch, {"train/loss": loss, "val/accuracy": 0.5})
            again.log_epoch(epoch, {"train/loss": loss, "val/accuracy": 0.5})
    (found,) = all_runs(root)
    assert found.info.run_id == again.id and found.info.status == "FINISHED"
    assert [point.step for point in store(root).get_metric_history(again.id, "train/loss")] == [1, 2]


def test_it_gets_a_run_of_its_own_where_the_former_is_gone_or_had_other_parameters(root: Path, history: Path) -> None:
    first = train(root, history)
    for params, interrupted in ((PARAMS, "0123456789abcdef0123456789abcdef"), ({**PARAMS, "evaluate.bins": 10}, first)):
        with training_run(root, "plumage", params, interrupted) as run:
            pass
        assert run.id not in (first, interrupted)


def test_a_run_tells_which_stages_it_has(root: Path, history: Path) -> None:
    elsewhere = "0123456789abcdef0123456789abcdef"
    with continued_run(root, "plumage", elsewhere, PARAMS, "register", lambda run: run.log_history(history)) as run:
        assert run.stages == {"train"}
    go_on(root, elsewhere, PARAMS, "evaluate", history)
    with continued_run(root, "plumage", elsewhere, PARAMS, "register", lambda run: run.log_history(history)) as run:
        assert run.stages == {"train", "evaluate", "register"}


def test_the_run_is_named_by_the_dvc_experiment(root: Path, history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-owl")
    train(root, history)
    [run] = all_runs(root)
    assert run.info.run_name == run.data.tags["dvc.exp"] == "puffy-owl"


def test_long_and_many_parameters_are_logged(root: Path, history: Path) -> None:
    train(root, history, {f"data.key{i}": "x" * 2000 for i in range(150)})
    [run] = all_runs(root)
    assert len(run.data.params) == 150 and run.data.params["data.key0"] == "x" * 499 + "…"


def test_tables_are_replaced_and_show_in_the_ui(root: Path, history: Path) -> None:
    table = root / "per_class.csv"
    run_id = train(root, history)
    for count in (3, 2):
        pd.DataFrame({"label": ["owl", "NA", "jay"][:count], "f1": [0.5] * count}).to_csv(table, index=False)
        with continued_run(root, "plumage", run_id, PARAMS, "evaluate", lambda run: run.log_history(history)) as run:
            run.log_table(table, "per_class")
    client = MlflowClient()
    shown = client.load_table(client.get_run(run_id).info.experiment_id, "per_class.json", [run_id])
    assert shown["label"].tolist() == ["owl", "NA"]
    assert {file.path for file in client.list_artifacts(run_id)} == {"per_class.csv", "per_class.json"}


def test_the_data_set_has_its_dvc_hash(root: Path, history: Path) -> None:
    digest = "0123456789abcdef0123456789abcdef.dir"
    Path("dvc.yaml").write_text(
        "stages: {download: {cmd: x, outs: [data/dataset]}, train: {cmd: x, deps: [data/dataset], outs: [models/m]}}"
    )
    Path("dvc.lock").write_text(
        f"stages: {{download: {{outs: [{{path: data/dataset, md5: {digest}}}]}}, "
        "train: {outs: [{path: models/m, md5: old}]}}"
    )
    Path("splits.csv").write_text("key,label,split\na.jpg,NA,train\nb.jpg,owl,train\nc.jpg,owl,test\n")
    with training_run(root, "plumage", PARAMS) as run:
        run.log_dataset("sample", Path("splits.csv"), "data/dataset")
    inputs = MlflowClient().get_run(run.id).inputs
    assert inputs is not None
    assert {(entry.dataset.name, entry.dataset.digest, entry.tags[0].value) for entry in inputs.dataset_inputs} == {
        ("sample/train", digest, "train"),
        ("sample/test", digest, "test"),
    }
    tags = MlflowClient().get_run(run.id).data.tags
    assert tags["dvc.data/dataset"] == digest and "dvc.models/m" not in tags


CHILD = """
import contextlib, signal, time
from pathlib import Path
from plumage.tracking.runs import training_run

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored

for how in ("end", "fail", "SIGINT", "SIGTERM", "SIGKILL"):
    with contextlib.suppress(BaseException), training_run(Path.cwd(), how, {"train.lr": 0.1}):
        print(how, flush=True)
        if how == "fail":
            raise ValueError("the loss is not finite")
        if how != "end":
            time.sleep(600)
"""


@pytest.mark.slow
def test_no_run_stays_running_however_its_process_ends(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("SIG"):
            child.send_signal(signal.Signals[line.strip()])
    assert child.wait() == -signal.SIGKILL
    names = {experiment.experiment_id: experiment.name for experiment in store(root).search_experiments()}
    deadline = time.monotonic() + 100
    while "RUNNING" in (found := {names[run.info.experiment_id]: run.info.status for run in all_runs(root)}).values():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert found == {"end": "FINISHED", "fail": "FAILED", "SIGINT": "KILLED", "SIGTERM": "KILLED", "SIGKILL": "KILLED"}


def test_sigterm_means_what_it_did_before_once_the_run_has_ended(root: Path, history: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    train(root, history)
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_watchdog_ends_with_the_run(root: Path) -> None:
    with training_run(root, "plumage", PARAMS):
        [watchdog] = children()
    assert children() == [] and not psutil.pid_exists(watchdog)


def children() -> list[int]:
    found = psutil.Process().children()
    return [child.pid for child in found if any("watchdog.py" in word for word in child.cmdline())]


def test_a_final_figure_is_the_last_point_of_its_curve(root: Path, history: Path) -> None:
    with continued_run(
        root, "plumage", train(root, history), PARAMS, "evaluate", lambda run: run.log_history(history)
    ) as run:
        run.log_results({"val/accuracy": 0.5, "test/accuracy": 0.6})
    metrics = MlflowClient().get_run(run.id).data.metrics
    assert metrics["val/accuracy"] == 0.5 and metrics["test/accuracy"] == 0.6
    curve = MlflowClient().get_metric_history(run.id, "val/accuracy")
    assert sorted((point.step, point.value) for point in curve) == [(1, 0.5), (2, 0.5), (2, 0.75)]
