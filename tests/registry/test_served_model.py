"""A registered model predicts photos in MLflow and over HTTP, with the files that it was registered with and no others."""

import base64
import contextlib
import inspect
import io
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from clean_environment import make_environment
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server
from PIL import Image
from registering import CLASSES, TEST, add, hits, make_photos

from plumage.accelerate import kernels
from plumage.common.files import sha256
from plumage.data.dataset.store import Dataset
from plumage.inference.request import JSON, PARQUET
from plumage.registry.served_model import LIMITS, InvalidRequest
from plumage.serving import Predictor, load_predictor

MODEL = "models:/bird-classifier@champion"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository root with a registered model, and the same model in `models`; the working directory."""
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("DVC_ROOT", str(folder))
        patch.chdir(folder)
        make_photos(folder / "dataset")
        for name in ("uv.lock", "pyproject.toml"):  # MLflow takes these into a model
            (folder / name).write_text("")
        add(folder, 0, hits(60))
        (folder / "models-0").rename(folder / "models")
        yield folder


@pytest.fixture(scope="module")
def logged(root: Path) -> Path:
    """The folder of the registered model."""
    return Path(mlflow.artifacts.download_artifacts(MODEL, dst_path=str(root / "logged")))


@pytest.fixture(scope="module")
def python(root: Path, logged: Path) -> Path:
    """The `python` of an environment with nothing but the model's requirements."""
    return make_environment(root / "environment", (logged / "requirements.txt").read_text().splitlines())


@pytest.fixture
def copy(logged: Path, tmp_path: Path) -> Path:
    """A copy of the model for a test to change."""
    return Path(shutil.copytree(logged, tmp_path / "copy"))


def make_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (45, 60, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def address(root: Path, python: Path) -> Iterator[str]:
    """The address of `mlflow models serve` of MODEL, started where only the model's own copy of `plumage` can be imported."""
    (root / "trap/plumage").mkdir(parents=True)
    (root / "trap/plumage/__init__.py").write_text("raise ImportError('not the code of the model')")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "mlflow", "models", "serve", "-m", MODEL, "--env-manager", "local"]
    environment = {**os.environ, "PYTHONPATH": str(root / "trap"), "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db"}
    environment["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    environment["MLFLOW_PYFUNC_INFERENCE_CONFIG"] = json.dumps({"max_photos": 5, "max_bytes": 3_000_000})
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


def post(address: str, body: bytes, media_type: str = JSON) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": media_type})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: list[dict[str, Any]] = json.load(response)["predictions"]
    return answer


def refusal(address: str, body: bytes, media_type: str = JSON) -> str:
    """The one line that a request is refused with."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(address, body, media_type)
    answer = caught.value.read().decode()
    line: str = json.loads(answer)["message"]
    assert caught.value.code == 400 and "\n" not in line and "Traceback" not in answer
    return line


def asking(*photos: bytes) -> bytes:
    data = [[base64.b64encode(photo).decode()] for photo in photos]
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": data}}).encode()


def as_parquet(values: list[object]) -> bytes:
    return bytes(pd.DataFrame({"image": values}).to_parquet())


@pytest.mark.slow
def test_mlflow_evaluates_a_registered_model_s_predictions_as_a_classifier(root: Path) -> None:
    dataset = Dataset(root / "dataset")
    photos, labels = [bytes(dataset.photo(row)) for row in TEST], [dataset.labels[row] for row in TEST]
    predicted = [top[0][0] for top in load_predictor("models").predict(photos, top_k=1)]
    correct = [prediction == label for prediction, label in zip(predicted, labels, strict=True)]
    model = mlflow.pyfunc.load_model(MODEL)
    table = model.predict(pd.DataFrame({"image": photos})).assign(label=labels)
    assert list(table["prediction"]) == predicted
    result = mlflow.models.evaluate(
        data=table, targets="label", predictions="prediction", model_type="classifier", model_id=model.model_id
    )
    assert result.metrics["accuracy_score"] == pytest.approx(np.mean(correct))
    linked = {metric.key: metric.value for metric in mlflow.get_logged_model(model.model_id).metrics}
    assert linked["accuracy_score"] == result.metrics["accuracy_score"]


@pytest.mark.slow
def test_a_model_served_in_an_environment_of_its_own_requirements_answers_as_here(address: str) -> None:
    photo = make_jpeg()
    [expected] = load_predictor(MODEL).probabilities([photo])
    text = base64.b64encode(photo).decode()
    requests = [(asking(photo), JSON), (as_parquet([photo]), PARQUET)]
    for request in ({"inputs": [text]}, {"instances": [{"image": text}]}, {"dataframe_records": [{"image": text}]}):
        requests.append((json.dumps(request).encode(), JSON))
    for body, media_type in requests:
        [answer] = post(address, body, media_type)
        assert list(answer) == ["prediction", *CLASSES]
        assert answer.pop("prediction") == CLASSES[expected.argmax()]
        np.testing.assert_array_equal(np.float32(list(answer.values())), expected)


@pytest.mark.slow
def test_a_server_reads_no_file_of_its_own_and_refuses_in_one_line(address: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(make_jpeg())
    for path in (str(tmp_path / "photo.jpg"), str(tmp_path / "absent.jpg"), "/dev/zero"):
        assert "text/csv" in refusal(address, f"image\n{path}\n".encode(), "text/csv")
        assert "is large_string" in refusal(address, as_parquet([path]), PARQUET)
        for request in ({"inputs": [path]}, {"instances": [{"image": path}]}, {"dataframe_records": [{"image": path}]}):
            assert refusal(address, json.dumps(request).encode()).startswith("photo 0: is not base64")
    assert refusal(address, b'{"inputs": [1.5]}') == "photo 0: is float; takes bytes, in JSON as base64"
    assert refusal(address, b"[" * 100_000).startswith("the request is not application/json")
    assert refusal(address, asking(make_jpeg(), b"no photo")).startswith("photo 1: not an image")
    assert post(address, asking()) == []


@pytest.mark.slow
def test_a_server_has_limits_of_its_own_and_returns_the_memory_of_a_request(address: str, root: Path) -> None:
    (server,) = (process for process in psutil.process_iter(["cmdline"]) if _serves(process, address))
    photo = make_jpeg()
    assert len(post(address, asking(*[photo] * 5))) == 5
    assert refusal(address, asking(*[photo] * 6)) == "6 photos; max_photos takes at most 5"
    assert "max_bytes takes at most 3,000,000" in refusal(address, asking(photo + bytes(3_000_000)))
    assert "takes at most 25,000,000" in refusal(address, asking(black_png(10_000)))
    before, large = server.memory_info().rss, black_png(4000, "RGB")
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(lambda _: post(address, asking(large)), range(4)))
    assert server.memory_info().rss - before < 60_000_000  # each photo takes 110 MB


def _serves(process: psutil.Process, address: str) -> bool:
    command = process.info["cmdline"] or []
    return (
        command[1:2] != ["-c"]
        and address.rpartition(":")[2] in command
        and "mlflow.pyfunc.scoring_server.app:app" in command
    )


def black_png(side: int, mode: str = "1") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, "PNG")
    return file.getvalue()


ASK = """
import sys
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
table = model.predict(pandas.DataFrame({"image": [open(sys.argv[2], "rb").read()]}))
print(table.drop(columns="prediction").to_json(orient="values", double_precision=15))
"""


@pytest.mark.slow
def test_a_model_needs_no_compiler_home_or_temporary_folder_and_leaves_its_code_as_it_is(
    logged: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.jpg").write_bytes(make_jpeg())
    code = sorted((logged / "code").rglob("*"))
    environment = {"HOME": os.devnull, "TMPDIR": os.devnull, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [str(python), "-c", ASK, str(logged), str(tmp_path / "photo.jpg")]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setattr(kernels, "compiled", lambda dtype=torch.float32: None)
    np.testing.assert_array_equal(
        np.float32(json.loads(done.stdout)), load_predictor("models").probabilities([make_jpeg()])
    )
    assert sorted((logged / "code").rglob("*")) == code


def test_loading_a_model_leaves_the_plumage_that_is_imported_as_it_is(logged: Path) -> None:
    modules, path = {name: sys.modules[name] for name in sys.modules if name.startswith("plumage")}, list(sys.path)
    served_predictor = mlflow.pyfunc.load_model(str(logged)).unwrap_python_model()._predictor
    assert Path(inspect.getfile(type(served_predictor).predict)) == logged / "code/plumage/inference/predictor.py"
    assert {name: sys.modules[name] for name in sys.modules if name.startswith("plumage")} == modules
    assert sys.path == path and isinstance(load_predictor("models"), Predictor)


def test_a_model_has_only_the_code_that_it_runs_and_no_lock_file_of_the_project(logged: Path) -> None:
    code = {file.relative_to(logged / "code/plumage").parts[0] for file in (logged / "code").rglob("*.py")}
    assert not code & {"cli", "evaluation", "params.py", "registry", "serving.py", "tracking", "training"}
    assert not (logged / "uv.lock").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("artifacts/model.safetensors", b"x"),
        ("artifacts/model.json", None),
        ("served_model.py", b"# x"),
        ("code/plumage/data/dataset/decode.py", b"# x"),
        ("code/plumage/accelerate/kernels/common.h", None),
        ("code/torch.py", b"raise SystemExit"),
        ("code/plumage/__pycache__/config.cpython-311.pyc", b"x"),
    ],
)
def test_a_model_does_not_load_with_a_file_that_was_not_registered(
    copy: Path, name: str, content: bytes | None
) -> None:
    file, hashes, path = copy / name, [], list(sys.path)
    if file.exists():
        hashes.append(sha256(file))
    if content is None:
        file.unlink()
    else:
        file.parent.mkdir(exist_ok=True)
        with file.open("ab") as opened:
            opened.write(content)
        hashes.append(sha256(file))
    with pytest.raises(MlflowException) as caught:
        mlflow.pyfunc.load_model(str(copy))
    line = str(caught.value)
    assert line.startswith(f"{copy}: {name}") and "\n" not in line
    assert hashes and all(digest in line for digest in hashes)
    assert sys.path == path  # so that nothing is imported from it later


def test_a_model_does_not_load_without_the_hashes_of_its_files(copy: Path) -> None:
    about = yaml.safe_load((copy / "MLmodel").read_text())
    del about["metadata"]
    (copy / "MLmodel").write_text(yaml.safe_dump(about))
    with pytest.raises(MlflowException, match="MLmodel no longer has the SHA-256"):
        mlflow.pyfunc.load_model(str(copy))


@pytest.fixture(scope="module")
def model(logged: Path) -> PyFuncModel:
    return mlflow.pyfunc.load_model(str(logged), model_config={"max_bytes": 100_000})


def test_bytes_in_any_container_and_base64_of_them_are_a_photo(model: PyFuncModel) -> None:
    photo = make_jpeg()
    values = [photo, bytearray(photo), memoryview(photo), np.bytes_(photo), base64.encodebytes(photo)]
    table = model.predict(pd.DataFrame({"image": values}))
    assert len(table) == 5 and len(table.drop_duplicates()) == 1
    assert list(model.predict(pd.DataFrame({"image": []}, dtype=object))) == list(table)


@pytest.mark.parametrize(
    "value",
    [
        None,
        float("nan"),
        "models/model.json",
        1.5,
        [b"x"],
        np.zeros(3, np.uint8),
        Path("photo.jpg"),
        Image.new("L", (9, 9)),
    ],
)
def test_a_value_that_is_not_bytes_is_one_line_and_never_a_path(model: PyFuncModel, value: object) -> None:
    table = pd.DataFrame({"image": pd.Series([make_jpeg(), value], dtype=object)})
    with pytest.raises(MlflowException) as caught:
        model.predict(table)
    assert str(caught.value) == f"photo 1: is {type(value).__name__}; takes bytes, in JSON as base64"
    assert caught.value.get_http_status_code() == 400


def test_the_line_of_a_refusal_stays_one_line() -> None:
    refused = InvalidRequest("photo 0: zero bytes")
    refused.message = f"Failed to predict data '...'. \nError: {refused.message}"  # as MLflow's own server does
    assert json.loads(refused.serialize_as_json())["message"] == "photo 0: zero bytes"


def test_limits_are_those_of_the_configuration(model: PyFuncModel, logged: Path) -> None:
    with pytest.raises(MlflowException, match="photo 0: 100,003 bytes; max_bytes takes at most 100,000"):
        model.predict(pd.DataFrame({"image": [b"\xff\xd8\xff" + bytes(100_000)]}))
    with pytest.raises(MlflowException, match="takes at most 25,000,000"):
        model.predict(pd.DataFrame({"image": [black_png(5001)]}))
    about = yaml.safe_load((logged / "MLmodel").read_text())
    assert about["flavors"]["python_function"]["config"] == LIMITS
    for value in (0, "9", 1.5, True, None):
        with pytest.raises(MlflowException, match=f"max_pixels is {value!r}; takes an integer of 1 or more"):
            mlflow.pyfunc.load_model(str(logged), model_config={"max_pixels": value})


def test_only_a_server_reads_requests_with_the_model_s_own_reader(model: PyFuncModel) -> None:
    assert inspect.isfunction(scoring_server.invocations)


def pipe(folder: Path, request: dict[str, Any], answer: Path) -> None:
    """Ask the server that reads lines, which Spark starts for a model in an environment of its own."""
    script = str(Path(scoring_server.__file__).parents[1] / "stdin_server.py")
    line = json.dumps({"id": 1, "data": request, "output_file": str(answer)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script, "--model-uri", str(folder)])
        patch.setattr(sys, "stdin", io.StringIO(f"{line}\n"))
        runpy.run_path(script)


def predict_file(folder: Path, request: dict[str, Any] | str, answer: Path) -> None:
    """`mlflow models predict` of a JSON file, or of a CSV file with the text."""
    file, kind = answer.with_name("request"), "csv" if isinstance(request, str) else "json"
    file.write_text(request if isinstance(request, str) else json.dumps(request))
    scoring_server._predict(str(folder), str(file), str(answer), kind)


@pytest.mark.parametrize("ask", [pipe, predict_file])
def test_mlflow_s_other_ways_to_ask_take_base64_and_read_no_file(
    logged: Path, tmp_path: Path, ask: Callable[[Path, Any, Path], None]
) -> None:
    photo, answer = tmp_path / "photo.jpg", tmp_path / "answer"
    photo.write_bytes(make_jpeg())
    requests: list[Any] = [
        {"inputs": [str(photo)]},
        {"dataframe_split": {"columns": ["image"], "data": [[str(photo)]]}},
    ]
    if ask is predict_file:
        requests.append(f"image\n{photo}\n")
    for request in requests:
        with pytest.raises(MlflowException, match="photo 0: |Failed to convert column image") as caught:
            ask(logged, request, answer)
        assert "\n" not in str(caught.value)
    assert not answer.exists() or not answer.read_text()
    ask(logged, json.loads(asking(make_jpeg())), answer)
    assert list(json.loads(answer.read_text())["predictions"][0]) == ["prediction", *CLASSES]
