"""With MLFLOW_REGISTRY_URI, runs and registered models are in two stores, and every command finds both."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from registering import NAME, add, hits, make_photos
from support import make_photo

from plumage.errors import TrackingError
from plumage.registry.lineage_query import lineage_of
from plumage.registry.promote import champions, promote
from plumage.serving import load_predictor
from plumage.tracking.store import registry_uri, use_store


@pytest.mark.slow
def test_models_are_registered_where_the_variable_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///shared/models.db")
    monkeypatch.setenv("DVC_ROOT", str(root))
    make_photos(root / "dataset")
    add(root, 0, hits(60))
    add(root, 1, hits(20))
    promote(root, NAME, 2, "we try it")
    assert champions(root, NAME).now == 2

    runs, models = (f"sqlite:///{root}/{file}" for file in ("mlflow.db", "shared/models.db"))
    assert [model.name for model in MlflowClient(runs, models).search_registered_models()] == [NAME]
    assert MlflowClient(runs, runs).search_registered_models() == []

    [answer] = load_predictor(f"models:/{NAME}@champion").predict([make_photo((90, 130, 170), 0)])
    assert len(answer) == 3
    assert lineage_of(f"models:/{NAME}@champion", root).version == 2


def test_the_registry_is_the_runs_store_unless_it_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    assert registry_uri(root) == use_store(root)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:////elsewhere/models.db")
    assert registry_uri(root) == "sqlite:////elsewhere/models.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://bird:secret@mlflow.example.org/")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "https://bird:secret@mlflow.example.org/")
    assert registry_uri(root) == "https://mlflow.example.org"


def test_a_registry_without_its_runs_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:////elsewhere/models.db")
    with pytest.raises(
        TrackingError, match=r"mlflow\.db does not exist yet, though MLFLOW_REGISTRY_URI is set; "
    ) as caught:
        lineage_of("models:/birds/1", tmp_path)
    assert "no such registered model" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
