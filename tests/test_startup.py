"""What starts quickly does not import what takes seconds: torch, its compiler, scikit-learn, MLflow."""

import os
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
    path = os.pathsep.join([str(Path(plumage.__file__).parents[1]), str(ROOT / "pipeline")])
    command = [
        sys.executable,
        "-c",
        f"{program}; print('imported', [name for name in {without} if name in sys.modules])",
    ]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported []"
