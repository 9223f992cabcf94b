"""MLflow's pages open on what runs are compared by, at 50 runs of 100 epochs."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow_servers import free_port, wait_for
from PIL import Image
from warm_python import warm_python

from plumage.tracking.pages import NOTE, prepare_pages
from plumage.tracking.run import Run
from plumage.tracking.saved_view import CONFUSION_IMAGE, MODELS_PATH, VIEW_TAG, view_path
from plumage.tracking.store import connect
from plumage.tracking.tags import EXPERIMENT_NOTE

RUNS, EPOCHS = 50, 100
SECONDS = 120
"""For a page to load beside other tests."""


def add_runs(root: Path, runs: int, epochs: int) -> str:
    """Log runs whose learning rates and recipes differ, each with a confusion matrix. Returns the experiment's id."""
    experiment, client = connect(root, "plumage"), MlflowClient()
    picture = root / "confusion.png"
    Image.new("RGB", (800, 500), "navy").save(picture)
    for number in range(runs):
        run_id = client.create_run(experiment, run_name=f"run-{number:02d}").info.run_id
        curves = [
            Metric(name, 1 - 1 / (epoch + 1 + number % 3), epoch, epoch)
            for epoch in range(1, epochs + 1)
            for name in ("val/accuracy", "val/loss", "train/loss", "train/accuracy", "train/lr")
        ]
        results = [
            Metric(name, 0.9, 0, 0) for name in ("test/accuracy", "test/accuracy_ci95/low", "test/n", "temperature")
        ]
        client.log_batch(run_id, metrics=[*curves, *results])
        params = {
            "train.lr": f"0.{number + 1}",
            "train.recipe": "probe",
            "model.name": "efficientnet_b0",
            "split.seed": "0",
        }
        client.log_batch(run_id, params=[Param(*param) for param in params.items()])
        Run(run_id, frozenset(), {}).log_image(picture, CONFUSION_IMAGE)
        client.set_terminated(run_id)
    prepare_pages(client, experiment)
    return experiment


def state_of(client: MlflowClient, experiment: str) -> dict[str, Any]:
    view = json.loads(client.get_experiment(experiment).tags[VIEW_TAG])
    state: dict[str, Any] = json.loads(view["state"])
    return state


class LosesRaces(MlflowClient):
    """A client before whose every new tag another process adds the same one, so that MLflow breaks its UNIQUE constraint."""

    def set_experiment_tag(self, experiment_id: str, key: str, value: object) -> None:
        is_new = key not in self.get_experiment(experiment_id).tags
        super().set_experiment_tag(experiment_id, key, value)
        if is_new:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed", BAD_REQUEST)


def test_two_clones_that_prepare_the_pages_at_once_both_succeed(tmp_path: Path) -> None:
    experiment = connect(tmp_path, "plumage")
    prepare_pages(LosesRaces(), experiment)
    assert {EXPERIMENT_NOTE, VIEW_TAG} <= set(MlflowClient().get_experiment(experiment).tags)


def test_an_experiment_gets_kind_description_and_columns_of_what_differs(root: Path) -> None:
    experiment, client = add_runs(root, 2, 1), MlflowClient()
    tags = client.get_experiment(experiment).tags
    assert (tags["mlflow.experimentKind"], tags["mlflow.note.content"]) == ("custom_model_development", NOTE)
    columns = state_of(client, experiment)["selectedColumns"]
    assert columns[:4] == [
        "metrics.`test/accuracy`", "metrics.`test/accuracy_ci95/low`", "metrics.`test/accuracy_ci95/high`",
        "metrics.`val/accuracy`",
    ]  # fmt: skip
    assert columns[4:] == ["params.`train.recipe`", "params.`model.name`", "params.`train.lr`"]


def test_what_a_person_wrote_about_an_experiment_stays(root: Path) -> None:
    experiment, client = connect(root, "plumage"), MlflowClient()
    own = {"mlflow.note.content": "our owls", "mlflow.experimentKind": "classification"}
    for name, value in own.items():
        client.set_experiment_tag(experiment, name, value)
    prepare_pages(client, experiment)
    tags = client.get_experiment(experiment).tags
    assert {name: tags[name] for name in own} == own and VIEW_TAG in tags


def test_a_picture_logged_again_replaces_the_earlier_one(root: Path) -> None:
    experiment, client = add_runs(root, 1, 1), MlflowClient()
    [run] = client.search_runs([experiment])
    Image.new("RGB", (800, 500), "green").save(root / "confusion.png")
    Run(run.info.run_id, frozenset(), {}).log_image(root / "confusion.png", CONFUSION_IMAGE)
    files = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert len(files) == 2 and {Path(file).suffix for file in files} == {".png", ".webp"}


@pytest.fixture
def pages(root: Path) -> Iterator[str]:
    """The address of MLflow's UI, and of its saved view, for many runs."""
    experiment, port = add_runs(root, RUNS, EPOCHS), free_port()
    code = (
        f"from pathlib import Path; from plumage.tracking.ui import serve_ui; serve_ui(Path.cwd(), '127.0.0.1', {port})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen([warm_python(), "-c", code], env=environment, stdout=subprocess.DEVNULL)
    wait_for(f"http://127.0.0.1:{port}")
    yield f"http://127.0.0.1:{port}/{view_path(experiment)}"
    server.terminate()
    server.wait(timeout=60)


@pytest.mark.slow
def test_the_saved_view_shows_columns_then_curves_and_confusion_matrices(pages: str, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def wait_until(condition: str) -> None:
        WebDriverWait(browser, SECONDS).until(lambda page: page.execute_script(f"return {condition}"))

    browser.set_window_size(1600, 2400)
    browser.get(pages)
    wait_until("document.body.innerText.includes('run-49')")
    text = browser.execute_script("return document.body.innerText")
    assert "test/accuracy_ci95/low" in text and "train.recipe" in text and "GenAI apps" not in text
    browser.get("about:blank")
    browser.get(f"{pages}&compareRunsMode=CHART")
    wait_until(
        "document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length >= 30"
    )  # three curves of ten runs
    wait_until("document.querySelectorAll('img[src*=confusion]').length >= 10")
    assert "system/" not in browser.execute_script("return document.body.innerText")
    browser.get(f"{pages.partition('#')[0]}{MODELS_PATH}")
    wait_until("document.body.innerText.includes('Registered Models')")
    assert browser.execute_script("return document.querySelectorAll('[role=dialog]').length") == 0
    text = browser.execute_script("return document.body.innerText")
    assert "Welcome to MLflow Assistant" not in text and "MCP registry" not in text


def test_a_disk_that_fills_while_a_picture_is_logged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    picture = tmp_path / "confusion.png"
    Image.new("RGB", (8, 5)).save(picture)
    monkeypatch.setattr(Image.Image, "save", save)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="No space left") as caught:
        Run("0" * 32, frozenset(), {}).log_image(picture, CONFUSION_IMAGE)
    assert Path(caught.value.filename).parent == tmp_path
