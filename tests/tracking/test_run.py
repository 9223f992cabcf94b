"""One run per pipeline execution, whatever is repeated, skipped or restored, with all that its stages logged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from pipeline_outputs import KEY

from plumage.tracking.open_run import training_run
from plumage.tracking.resume import resume_run
from plumage.tracking.run import Stage
from plumage.tracking.tags import RESTORED

PARAMS = {"train.lr": 0.01, "evaluate.bins": 15}
HISTORY = Path("reports/history.csv")
MISSING_RUN = "0123456789abcdef0123456789abcdef"


def train(root: Path, params: Mapping[str, object] = PARAMS) -> str:
    with training_run(root, "plumage", KEY, params) as run:
        run.log_history(HISTORY)
    return run.id


def add_stage(root: Path, params: Mapping[str, object], stage: Stage, accuracy: float = 0.9) -> str:
    with resume_run(root, "plumage", params, stage) as run:
        run.log_metrics({"test/accuracy": accuracy})
    return run.id


def store(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root}/mlflow.db")


def all_runs(root: Path) -> list[MlflowRun]:
    client = store(root)
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def test_an_execution_is_one_finished_run(outputs: Path) -> None:
    run_id = train(outputs)
    assert add_stage(outputs, PARAMS, "evaluate") == run_id
    assert add_stage(outputs, PARAMS, "register") == run_id
    [run] = all_runs(outputs)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.lr": "0.01", "evaluate.bins": "15"}
    assert run.data.metrics["val/accuracy"] == 0.75 and run.data.metrics["test/accuracy"] == 0.9
    assert [(point.step, point.value) for point in MlflowClient().get_metric_history(run_id, "train/loss")] == [
        (1, 2.0),
        (2, 1.0),
    ]


def test_a_repeated_stage_adds_to_the_same_run(outputs: Path) -> None:
    run_id = train(outputs)
    add_stage(outputs, PARAMS, "evaluate", accuracy=0.8)
    assert add_stage(outputs, PARAMS, "evaluate", accuracy=0.9) == run_id
    [run] = all_runs(outputs)
    assert run.data.metrics["test/accuracy"] == 0.9


def test_other_evaluate_parameters_get_their_own_run(outputs: Path) -> None:
    run_id = train(outputs)
    add_stage(outputs, PARAMS, "evaluate", accuracy=0.8)
    other = {**PARAMS, "evaluate.bins": 10}
    second = add_stage(outputs, other, "evaluate", accuracy=0.9)
    assert add_stage(outputs, other, "register") == second != run_id
    assert add_stage(outputs, other, "evaluate") == second
    runs = {run.info.run_id: run.data for run in all_runs(outputs)}
    assert set(runs) == {run_id, second}
    assert runs[run_id].metrics["test/accuracy"] == 0.8 and runs[run_id].params["evaluate.bins"] == "15"
    assert runs[second].params["evaluate.bins"] == "10" and runs[second].metrics["train/loss"] == 1.0
    assert RESTORED in runs[second].tags and RESTORED not in runs[run_id].tags


def test_a_store_that_lacks_the_run_gets_it_restored_once(outputs: Path) -> None:
    first = add_stage(outputs, PARAMS, "evaluate")
    assert add_stage(outputs, PARAMS, "register") == first
    [run] = all_runs(outputs)
    assert RESTORED in run.data.tags and run.data.metrics["val/accuracy"] == 0.75


def test_an_interrupted_training_continues_its_run_and_logs_each_epoch_once(outputs: Path) -> None:
    with pytest.raises(KeyboardInterrupt), training_run(outputs, "plumage", KEY, PARAMS) as run:
        run.log_epoch(1, {"train/loss": 2.0, "val/accuracy": 0.5})
        raise KeyboardInterrupt
    with training_run(outputs, "plumage", KEY, PARAMS, run.id) as again:
        for epoch, loss in ((1, 2.0), (2, 1.0)):
            again.log_epoch(epoch, {"train/loss": loss, "val/accuracy": 0.5})
            again.log_epoch(epoch, {"train/loss": loss, "val/accuracy": 0.5})
    (found,) = all_runs(outputs)
    assert found.info.run_id == again.id and found.info.status == "FINISHED"
    assert [point.step for point in store(outputs).get_metric_history(again.id, "train/loss")] == [1, 2]


def test_mlflow_s_page_to_compare_runs_opens_on_val_accuracy(outputs: Path) -> None:
    """It opens on the metric that comes first."""
    with training_run(outputs, "plumage", KEY, PARAMS) as run:
        run.log_epoch(1, {"train/loss": 2.0, "val/loss": 1.5, "val/accuracy": 0.5})
    assert list(store(outputs).get_run(run.id).data.metrics)[:2] == ["val/accuracy", "val/loss"]


def test_an_interrupted_run_that_is_gone_or_had_other_parameters_is_not_reopened(outputs: Path) -> None:
    first = train(outputs)
    for params, interrupted in ((PARAMS, MISSING_RUN), ({**PARAMS, "evaluate.bins": 10}, first)):
        with training_run(outputs, "plumage", KEY, params, interrupted) as run:
            pass
        assert run.id not in (first, interrupted)


def test_a_run_tells_which_stages_it_has(outputs: Path) -> None:
    with resume_run(outputs, "plumage", PARAMS, "evaluate") as run:
        assert run.stages == {"train"}
    add_stage(outputs, PARAMS, "register")
    with resume_run(outputs, "plumage", PARAMS, "register") as run:
        assert run.stages == {"train", "evaluate", "register"}


def test_a_run_is_named_by_architecture_and_recipe(outputs: Path) -> None:
    params = {**PARAMS, "model.name": "efficientnet_b0", "train.recipe": "scratch"}
    train(outputs, params)
    restored = add_stage(outputs, {**params, "evaluate.bins": 10}, "evaluate")
    assert [run.info.run_name for run in all_runs(outputs)] == ["efficientnet_b0-scratch"] * 2
    assert RESTORED in MlflowClient().get_run(restored).data.tags


def test_in_an_experiment_a_run_has_the_name_of_the_experiment(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "puffy-owl")
    train(outputs)
    [run] = all_runs(outputs)
    assert run.info.run_name == run.data.tags["dvc.exp"] == "puffy-owl"


def test_long_and_many_parameters_are_logged(outputs: Path) -> None:
    train(outputs, {f"data.key{i}": "x" * 2000 for i in range(150)})
    [run] = all_runs(outputs)
    assert len(run.data.params) == 150 and run.data.params["data.key0"] == "x" * 499 + "…"


def test_tables_are_replaced_and_show_in_the_ui(outputs: Path) -> None:
    table = outputs / "per_class.csv"
    run_id = train(outputs)
    for count in (3, 2):
        pd.DataFrame({"label": ["owl", "NA", "jay"][:count], "f1": [0.5] * count}).to_csv(table, index=False)
        with resume_run(outputs, "plumage", PARAMS, "evaluate") as run:
            run.log_table(table, "per_class")
    client = MlflowClient()
    shown = client.load_table(client.get_run(run_id).info.experiment_id, "per_class.json", [run_id])
    assert shown["label"].tolist() == ["owl", "NA"]
    assert {file.path for file in client.list_artifacts(run_id)} == {"lineage.json", "per_class.json"}


def test_classes_that_look_like_numbers_or_missing_values_stay_names_in_tables(outputs: Path) -> None:
    names = ["001", "010", "1e5", "nan", "None", "true", "NA", "null", "-inf", ""]
    table = outputs / "confusion.csv"
    pd.DataFrame({"actual": names, "predicted": names[::-1], "count": 2}).to_csv(table, index=False)
    run_id = train(outputs)
    with resume_run(outputs, "plumage", PARAMS, "evaluate") as run:
        run.log_table(table, "confusion")
    path = MlflowClient().download_artifacts(run_id, "confusion.json", str(outputs))
    assert json.loads(Path(path).read_text())["data"] == [[*pair, 2] for pair in zip(names, names[::-1], strict=True)]


def test_a_final_metric_is_the_last_point_of_its_curve(outputs: Path) -> None:
    train(outputs)
    with resume_run(outputs, "plumage", PARAMS, "evaluate") as run:
        run.log_results({"val/accuracy": 0.5, "test/accuracy": 0.6})
    metrics = MlflowClient().get_run(run.id).data.metrics
    assert metrics["val/accuracy"] == 0.5 and metrics["test/accuracy"] == 0.6
    curve = MlflowClient().get_metric_history(run.id, "val/accuracy")
    assert sorted((point.step, point.value) for point in curve) == [(1, 0.5), (2, 0.5), (2, 0.75)]


def test_a_restored_curve_and_final_metrics_take_few_requests(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"epoch": range(1, 121), "train/loss": 1.0, "val/accuracy": 0.5}).to_csv(HISTORY, index=False)
    requests, log_batch = [], MlflowClient.log_batch

    def counted(*given: Any, **named: Any) -> None:
        requests.append(named)
        log_batch(*given, **named)

    with training_run(outputs, "plumage", KEY, PARAMS):
        pass
    with resume_run(outputs, "plumage", PARAMS, "evaluate") as run:
        monkeypatch.setattr(MlflowClient, "log_batch", counted)
        run.log_history(HISTORY)
        assert len(requests) == 3
        run.log_history(HISTORY)
        assert len(requests) == 3, "it is there already"
        run.log_results({"val/accuracy": 0.6, **{f"test/{number}": float(number) for number in range(40)}})
        assert len(requests) == 5, "one for the last epoch, one for metrics without a curve"
    monkeypatch.undo()
    metrics = MlflowClient().get_run(run.id).data.metrics
    assert metrics["val/accuracy"] == 0.6 and metrics["test/39"] == 39
    assert [point.step for point in MlflowClient().get_metric_history(run.id, "train/loss")] == [*range(1, 121)]
