"""The `plumage` command: what it prints, and one line for what is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import make_photo

from plumage import config
from plumage.data.transforms import Preprocessing
from plumage.models import create_model
from plumage.models.bundle import save_model

CLASSES = ["BLUE JAY", "CARDINAL", "[red]MARKUP", "GREEN JAY", "ORIOLE", "OWL"]


def plumage(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from plumage.cli import main; main()"
    source = str(Path(config.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "DVC_ROOT": str(folder), "COLUMNS": "100"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in models/, a photo and a file that is none."""
    folder = tmp_path_factory.mktemp("use")
    torch.manual_seed(0)
    save_model(
        folder / "models",
        create_model("efficientnet_lite0", len(CLASSES)),
        CLASSES,
        Preprocessing(size=32, crop_fraction=1),
    )
    (folder / "bird [1].jpg").write_bytes(make_photo((60, 90, 200), 0))
    (folder / "note.jpg").write_text("no photo")
    return folder


def test_predict_prints_the_five_most_probable_classes_in_order(folder: Path) -> None:
    done = plumage(folder, "predict", "bird [1].jpg")
    assert done.returncode == 0, done.stderr
    title, *lines = done.stdout.splitlines()
    assert title == "bird [1].jpg"
    percent = [float(line.split("%")[0]) for line in lines]
    assert len(lines) == 5 and percent == sorted(percent, reverse=True)
    every = plumage(folder, "predict", "bird [1].jpg", "--top", "6").stdout.splitlines()[1:]
    assert {line.split("%")[1].strip() for line in every} == set(CLASSES)
    assert len(plumage(folder, "predict", "bird [1].jpg", "--top", "2").stdout.splitlines()) == 3


def test_predict_goes_on_after_a_file_that_is_no_photo_and_exits_1(folder: Path) -> None:
    done = plumage(folder, "predict", "note.jpg", "absent.jpg", "bird [1].jpg")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("error: note.jpg: not a whole photo") and second.startswith(
        "error: absent.jpg: No such file"
    )
    assert done.stdout.startswith("bird [1].jpg\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "bird [1].jpg", "--model", "nowhere"], "nowhere"),
        (["predict", "bird [1].jpg", "--model", "models:/absent@champion"], "absent"),
        (["summary"], "run `dvc repro`"),
    ],
)
def test_what_is_not_there_is_one_line(folder: Path, arguments: list[str], said: str) -> None:
    done = plumage(folder, *arguments)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and said in line


def test_summary_says_accuracy_version_and_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    metrics = {"test": {"accuracy": 0.96, "accuracy_ci95": {"low": 0.9, "high": 0.98}, "n": 150}}
    registry = {"name": "birds", "version": 3, "aliases": ["challenger"], "decision": {"reason": "not over 0.97"}}
    for name, content in {"metrics": metrics, "registry": registry}.items():
        (tmp_path / "reports" / f"{name}.json").write_text(json.dumps(content))
    said = plumage(tmp_path, "summary").stdout
    assert "0.960  (95%: 0.900 to 0.980, 150 photos)" in said
    assert "birds version 3 @challenger: not over 0.97" in said
    assert "reports/report.html" in said and "make ui" in said


def test_params_is_the_committed_reference(tmp_path: Path) -> None:
    committed = Path(__file__).parents[1] / "docs" / "params.md"
    assert plumage(tmp_path, "params").stdout == committed.read_text()
