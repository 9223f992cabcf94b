"""A logged model knows its versions, and its test metrics know the data that they were measured on."""

import json
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from registering import NAME, add, hits, make_model

from plumage.registry.log_model import log_model, log_model_metrics
from plumage.registry.served_model import output_columns
from plumage.tracking.inputs import log_datasets
from plumage.tracking.open_run import training_run

METRICS = {"test/accuracy": 0.75, "test/ece": 0.05}


def model_of(version: int) -> mlflow.entities.LoggedModel:
    source = MlflowClient().get_model_version(NAME, str(version)).source
    return MlflowClient().get_logged_model(source.removeprefix("models:/"))


def test_test_metrics_are_linked_to_the_test_photos_and_stay_one_point_of_the_run(root: Path) -> None:
    splits = root / "data" / "splits.csv"
    splits.parent.mkdir()
    splits.write_text("key,label,split\n1.jpg,owl,train\n2.jpg,owl,test\n3.jpg,jay,test\n")
    with training_run(root, "plumage", "key", {}) as run:
        log_datasets(run)
        run.log_results(METRICS)
    client = MlflowClient()
    with mlflow.start_run(run.id):
        model_id = log_model(NAME, make_model(root / "models", 0), [], epoch=1)
        log_model_metrics(run, model_id, METRICS)
    inputs = client.get_run(run.id).inputs.dataset_inputs
    (test,) = (logged.dataset for logged in inputs if logged.dataset.name == "photos/test")
    found = {metric.key: metric for metric in mlflow.get_logged_model(model_id).metrics}
    assert {key: metric.value for key, metric in found.items()} == METRICS
    assert {(metric.dataset_name, metric.dataset_digest) for metric in found.values()} == {(test.name, test.digest)}
    for key in METRICS:
        assert len(client.get_metric_history(run.id, key)) == 1


def test_a_logged_model_links_to_its_version_as_after_mlflow_register_model(registered: Path) -> None:
    (version,) = json.loads(model_of(1).tags["mlflow.modelVersions"])
    assert (version["name"], int(version["version"])) == (NAME, 1)
    assert MlflowClient().get_registered_model(NAME).description


def test_metrics_of_a_second_evaluation_are_added_to_the_same_model(photos: Path) -> None:
    for correct in (40, 40, 45):
        add(photos, 1, hits(correct))
    values = [metric.value for metric in model_of(1).metrics if metric.key == "test/accuracy"]
    assert sorted(values) == [pytest.approx(40 / 60, abs=1e-6), 0.75]


def test_a_class_called_prediction_does_not_collide_with_the_prediction() -> None:
    assert output_columns(["owl", "wren"]) == ["prediction", "owl", "wren"]
    assert output_columns(["owl", "prediction"]) == ["prediction", "owl", "prediction (class)"]
