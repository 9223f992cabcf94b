"""Fixtures for an empty MLflow store. Its database is made once per session: that takes MLflow seconds."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest

from plumage.tracking.store import connect

ELSEWHERE = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_EXP_NAME", "DVC_ROOT", "DVC_STAGE")
"""Variables that lead to another store or repository than that of a test."""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    with in_own_store(root):
        mlflow.delete_experiment(connect(root, "made once"))
    return root / "mlflow.db"


@contextmanager
def in_own_store(folder: Path) -> Iterator[None]:
    """Work in `folder`, whose store is its own."""
    with pytest.MonkeyPatch.context() as patch:
        _settle(folder, patch)
        yield


def _settle(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for name in ELSEWHERE:
        patch.delenv(name, raising=False)
    patch.chdir(folder)


@pytest.fixture
def root(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository root with an empty store, as the working directory of the test."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    _settle(tmp_path, monkeypatch)
    return tmp_path
