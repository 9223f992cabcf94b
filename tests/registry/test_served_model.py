"""A registered model predicts photos in MLflow and over HTTP, with the code that it was registered with."""

import base64
import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image
from registering import CLASSES, TEST, add, hits, make_photos

from plumage.data.dataset.store import Dataset
from plumage.registry import served_model
from plumage.serving import load_predictor


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository root with a registered model, and the same model in `models`."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "dataset")
    add(tmp_path, 0, hits(60))
    (tmp_path / "models-0").rename(tmp_path / "models")
    return tmp_path


@contextlib.contextmanager
def served(root: Path, model: str) -> Iterator[str]:
    """The address of `mlflow models serve`, started where only the model's own copy of `plumage` can be imported."""
    (root / "trap/plumage").mkdir(parents=True)
    (root / "trap/plumage/__init__.py").write_text("raise ImportError('not the code of the model')")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
    environment = {**os.environ, "PYTHONPATH": str(root / "trap"), "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log = (root / "serve.log").open("w")
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=environment, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert server.poll() is None, (root / "serve.log").read_text()
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/ping", timeout=5)
                break
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def ask(address: str, photo: bytes) -> list[dict[str, Any]]:
    body = {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(photo).decode()]]}}
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: list[dict[str, Any]] = json.load(response)["predictions"]
    return answer


@pytest.mark.parametrize("value", [None, "models/model.json", 1.5])
def test_a_value_that_is_not_bytes_is_one_line_and_never_a_path(value: object) -> None:
    with pytest.raises(MlflowException, match=rf"photo 0: is {type(value).__name__}; takes bytes") as caught:
        served_model.ServedModel().predict(None, pd.DataFrame({"image": [value]}))
    assert caught.value.get_http_status_code() == 400


@pytest.mark.slow
def test_mlflow_evaluates_a_registered_model_s_predictions_as_a_classifier(root: Path) -> None:
    dataset = Dataset(root / "dataset")
    photos, labels = [bytes(dataset.photo(row)) for row in TEST], [dataset.labels[row] for row in TEST]
    predicted = [top[0][0] for top in load_predictor("models").predict(photos, top_k=1)]
    correct = [prediction == label for prediction, label in zip(predicted, labels, strict=True)]
    model = mlflow.pyfunc.load_model("models:/bird-classifier@champion")
    table = model.predict(pd.DataFrame({"image": photos})).assign(label=labels)
    assert list(table["prediction"]) == predicted
    result = mlflow.models.evaluate(
        data=table, targets="label", predictions="prediction", model_type="classifier", model_id=model.model_id
    )
    assert result.metrics["accuracy_score"] == pytest.approx(np.mean(correct))
    linked = {metric.key: metric.value for metric in mlflow.get_logged_model(model.model_id).metrics}
    assert linked["accuracy_score"] == result.metrics["accuracy_score"]


@pytest.mark.slow
def test_a_served_model_returns_the_prediction_and_the_probabilities_of_a_base64_photo(root: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (45, 60, 3), dtype=np.uint8)).save(buffer, "JPEG")
    photo = buffer.getvalue()
    [expected] = load_predictor("models:/bird-classifier@champion").probabilities([photo])
    shutil.rmtree(root / "models")
    with served(root, "models:/bird-classifier@champion") as address:
        [answer] = ask(address, photo)
        assert list(answer) == ["prediction", *CLASSES]
        assert answer.pop("prediction") == CLASSES[expected.argmax()]
        np.testing.assert_allclose(list(answer.values()), expected, rtol=1e-5)
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(address, b"no photo")
        assert caught.value.code == 400 and "not an image" in caught.value.read().decode()
