"""`plumage predict` on many photos, as a real process: pipes, interruptions, and what can't be read."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch
from support import make_photo
from warm_python import warm_python

from plumage import config
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model

SOURCE = str(Path(config.__file__).parents[1])
PREDICT = ("-c", "from plumage.cli.main import main; main()", "predict")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in models/, and a folder birds/ of 100 photos, one of them damaged."""
    folder = tmp_path_factory.mktemp("many")
    torch.manual_seed(0)
    save_model(
        folder / "models", create_model("efficientnet_lite0", 3), list("abc"), Preprocessing(size=32, crop_fraction=1)
    )
    (folder / "birds").mkdir()
    for number in range(100):
        photo = make_photo((60, 90, 2 * number), number)
        (folder / "birds" / f"{number:02d}.jpg").write_bytes(photo[:200] if number == 40 else photo)
    return folder


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    pipe = subprocess.PIPE
    command = [warm_python(), *PREDICT, *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=pipe, stderr=pipe)


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(folder: Path) -> None:
    whole = start(folder, "birds", "--output", "whole.jsonl")
    said, errors = whole.communicate()
    assert whole.returncode == 3 and said == "whole.jsonl: 99 photos\n"
    (unreadable,) = (line for line in errors.splitlines() if line.startswith("error: "))  # beside progress
    assert unreadable.startswith("error: birds/40.jpg: truncated")
    assert errors.splitlines()[-1] == "1 of 100 photos can't be read"
    assert len([json.loads(line) for line in (folder / "whole.jsonl").open()]) == 99

    killed, output = start(folder, "birds", "--output", "cut.jsonl"), folder / "cut.jsonl"
    while killed.poll() is None and not (output.exists() and output.stat().st_size):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    os.truncate(output, output.stat().st_size - 20)
    again = start(folder, "birds", "--output", "cut.jsonl")
    said, _ = again.communicate()
    assert again.returncode == 3 and "of them from before" in said
    assert output.read_bytes() == (folder / "whole.jsonl").read_bytes()


def test_a_reader_that_leaves_ends_it_quietly(folder: Path) -> None:
    process = start(folder, "birds", "--format", "csv", "--top", "1")
    assert process.stdout and process.stderr
    assert process.stdout.readline() == "photo,pred_1,prob_1,model\n"
    process.stdout.close()
    assert "Traceback" not in process.stderr.read() and process.wait() == 1


def test_without_a_model_it_says_what_makes_one(tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    process = start(tmp_path, "1.jpg")
    _, errors = process.communicate()
    assert process.returncode == 1 and "holds no model yet; run `dvc repro`" in errors and errors.count("\n") == 1
