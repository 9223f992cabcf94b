"""An empty store, created once because MLflow takes seconds for it, and a repository with the outputs of a pipeline."""

import shutil
from pathlib import Path

import mlflow
import pytest
from pipeline_outputs import write_outputs
from registering import make_photos

from plumage.tracking.store import connect


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        mlflow.delete_experiment(connect(root, "made once"))
    return root / "mlflow.db"


@pytest.fixture
def root(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository root with an empty store, which is the working directory."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def photos_made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "dataset"
    make_photos(folder)
    return folder


@pytest.fixture
def photos(root: Path, photos_made_once: Path) -> Path:
    """`root`, with a data set in `dataset`."""
    shutil.copytree(photos_made_once, root / "dataset")
    return root


@pytest.fixture
def outputs(root: Path) -> Path:
    """`root`, with the files of the stages up to evaluate, run in another repository."""
    write_outputs(root)
    return root
