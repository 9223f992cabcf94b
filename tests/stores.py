"""Fixtures for an empty MLflow store. Its database is made once per session: that takes MLflow seconds."""

import shutil
from pathlib import Path

import mlflow
import pytest

from plumage.tracking.store import connect

STORES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
"""Variables that lead to another store than that of a test."""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        for name in STORES:
            patch.delenv(name, raising=False)
        mlflow.delete_experiment(connect(root, "made once"))
    return root / "mlflow.db"


@pytest.fixture
def root(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository root with an empty store, as the working directory of the test."""
    for name in (*STORES, "DVC_EXP_NAME", "DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path
