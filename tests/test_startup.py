"""What starts quickly does not import what takes seconds (torch, its compiler, scikit-learn, MLflow) or look for garbage in it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import make_photo

import plumage
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model

ROOT = Path(__file__).parents[1]
REGISTER = "import sys; sys.argv = ['register.py']; import register"
PREDICT = "import sys; sys.argv = ['plumage', 'predict', 'photo.jpg']; from plumage.cli.main import app; app(standalone_mode=False)"
TRAIN = "import sys; from plumage.training.seeding import seed_everything; seed_everything(0)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in models/, and a photo."""
    folder, preprocessing = tmp_path_factory.mktemp("model"), Preprocessing(size=32, crop_fraction=1)
    torch.manual_seed(0)
    save_model(folder / "models", create_model("efficientnet_lite0", 3), ["a", "b", "c"], preprocessing)
    (folder / "photo.jpg").write_bytes(make_photo((60, 90, 120), 0))
    return folder


def run_program(program: str, folder: Path) -> list[str]:
    """The lines that Python code prints in `folder`; it can import the stages."""
    path = os.pathsep.join([str(Path(plumage.__file__).parents[1]), str(ROOT / "pipeline")])
    environment, command = {**os.environ, "PYTHONPATH": path}, [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("program", "without"),
    [
        (PREDICT, ["torch", "sklearn", "scipy", "pandas", "mlflow"]),
        (REGISTER, ["torch", "sklearn", "matplotlib"]),
        (TRAIN, ["torch._inductor", "torch._dynamo"]),
    ],
    ids=["predict", "register", "train"],
)
def test_it_starts_without(folder: Path, program: str, without: list[str]) -> None:
    said = run_program(f"{program}; print('imported', [name for name in {without} if name in sys.modules])", folder)
    assert said[-1] == "imported []"


def test_python_looks_for_garbage_in_what_a_stage_makes_and_not_in_what_it_imports(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    program = """
import gc, sys
sys.argv = ["split.py"]
import _stage
before = gc.get_stats()
import split
print(gc.get_stats() == before)
split.run_stage(lambda inputs: print(gc.isenabled(), gc.get_freeze_count() > len(sys.modules)))
"""
    assert run_program(program, tmp_path) == ["True", "True True"]
