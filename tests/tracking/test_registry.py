"""One version a model, and a champion that is only ever replaced by a better one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from plumage.data.transforms import Preprocessing
from plumage.errors import ModelError, TrackingError
from plumage.models import create_model
from plumage.models.bundle import save_model
from plumage.serving import load_predictor
from plumage.tracking.registry import fetch_model, register
from plumage.tracking.runs import training_run

NAME = "bird-classifier"


def make_model(folder: Path, seed: int, classes: list[str] | None = None) -> Path:
    torch.manual_seed(seed)
    names = classes or ["jay", "owl", "wren"]
    save_model(folder, create_model("efficientnet_lite0", len(names)), names, Preprocessing(size=32, crop_fraction=1.0))
    return folder


def never(folder: Path) -> float:
    raise AssertionError("the champion was measured, though its tags say how good it is on these photos")


def add(
    root: Path, seed: int, accuracy: float, test_hash: str = "same", accuracy_of: Callable[[Path], float] = never
) -> dict[str, Any]:
    model_dir = make_model(root / f"models-{seed}", seed)
    with training_run(root, "plumage", {"train.seed": seed}) as run:
        return register(
            root,
            run,
            model_name=NAME,
            model_dir=model_dir,
            metrics={"test": {"accuracy": accuracy, "accuracy_ci95": {"low": 0.1, "high": 0.9}}},
            test_hash=test_hash,
            accuracy_of=accuracy_of,
        )


def test_the_first_is_champion_and_only_a_better_one_takes_its_place(root: Path) -> None:
    first = add(root, seed=1, accuracy=0.8)
    assert (first["version"], first["aliases"], first["created"]) == (1, ["challenger", "champion"], True)
    equal = add(root, seed=2, accuracy=0.8)
    assert (equal["version"], equal["aliases"]) == (2, ["challenger"])
    assert equal["decision"]["reason"] == "test accuracy 0.8000 is not over 0.8000 of champion version 1"
    better = add(root, seed=3, accuracy=0.81)
    assert (better["version"], better["aliases"]) == (3, ["challenger", "champion"])
    assert better["decision"]["champion_before"] == 1 and better["decision"]["promoted"]
    assert MlflowClient().get_registered_model(NAME).aliases == {"challenger": 3, "champion": 3}


def test_an_unchanged_model_gets_no_second_version(root: Path) -> None:
    first = add(root, seed=1, accuracy=0.8)
    again = add(root, seed=1, accuracy=0.8)
    assert (again["version"], again["created"], again["run_id"]) == (1, False, first["run_id"])
    assert again["decision"]["reason"] == "version 1 is the champion already"
    assert again == add(root, seed=1, accuracy=0.8)
    assert len(MlflowClient().search_model_versions(f"name = '{NAME}'")) == 1


def test_a_version_is_tagged_with_its_run_figures_and_hashes(root: Path) -> None:
    outcome = add(root, seed=1, accuracy=0.8)
    tags = MlflowClient().get_model_version_by_alias(NAME, "champion").tags
    assert tags["test/accuracy"] == "0.8"
    assert tags["plumage.test_hash"] == "same" and tags["plumage.model_hash"] == outcome["model_hash"]
    assert tags["plumage.run_id"] == outcome["run_id"] and tags["plumage.version"]


def test_on_other_test_photos_the_champion_is_measured_anew(root: Path) -> None:
    add(root, seed=1, accuracy=0.8)
    predictor = load_predictor(root / "models-1")
    photo = Image.new("RGB", (40, 40), (200, 30, 30))

    def measure(folder: Path) -> float:
        assert load_predictor(folder).predict([photo]) == predictor.predict([photo])
        return 0.5

    outcome = add(root, seed=2, accuracy=0.6, test_hash="other", accuracy_of=measure)
    assert outcome["decision"]["promoted"] and outcome["decision"]["champion_test_accuracy"] == 0.5


def test_a_champion_that_cannot_be_measured_stays(root: Path) -> None:
    add(root, seed=1, accuracy=0.8)

    def other_classes(folder: Path) -> float:
        raise ModelError("it knows 3 classes, the test photos have 4")

    decision = add(root, seed=2, accuracy=0.9, test_hash="other", accuracy_of=other_classes)["decision"]
    assert not decision["promoted"] and "it knows 3 classes" in decision["reason"]


REGISTER = """
import sys
from pathlib import Path
from test_registry import add

root, seed = Path(sys.argv[1]), int(sys.argv[2])
add(root, seed, accuracy=seed / 10)
"""


@pytest.mark.slow
def test_two_that_register_together_leave_the_better_one_champion(root: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    both = [
        subprocess.Popen([sys.executable, "-c", REGISTER, str(root), str(seed)], env=environment) for seed in (8, 9)
    ]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    client = MlflowClient(f"sqlite:///{root}/mlflow.db", f"sqlite:///{root}/mlflow.db")
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2
    assert client.get_model_version_by_alias(NAME, "champion").tags["test/accuracy"] == "0.9"


def test_no_file_of_a_registered_model_is_a_pickle(root: Path) -> None:
    add(root, seed=1, accuracy=0.8)
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{NAME}@champion"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")]
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]  # a pickle's first byte


def test_fetching_says_what_there_is_when_there_is_no_such_model(root: Path) -> None:
    add(root, seed=1, accuracy=0.8)
    for uri, told in {
        "models:/owls@champion": "there are bird-classifier",
        f"models:/{NAME}@best": "there are @challenger, @champion, /1",
        f"models:/{NAME}/7": "there are @challenger, @champion, /1",
        f"models:/{NAME}": "takes models:/NAME@ALIAS or models:/NAME/VERSION",
    }.items():
        with pytest.raises(TrackingError, match=told):
            fetch_model(uri, root, root / "fetched")
    assert fetch_model(f"models:/{NAME}/1", root, root).joinpath("model.safetensors").is_file()
