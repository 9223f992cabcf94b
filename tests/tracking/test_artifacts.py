"""Artifacts lie beside the store's database, whatever its path, and are found from any working directory."""

import shutil
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, load_text
from mlflow.store.artifact.artifact_repository_registry import (
    get_artifact_repository,
    get_registered_artifact_repositories,
)
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from plumage.tracking.artifacts import StoreArtifactRepository, sqlite_database
from plumage.tracking.store import connect, sqlite_uri

NAMES = ["jürgen", "it's", "C#birds", "50%", "a%20b", "[new]", "a\tb", "what?x=1", "鳥 🐦 & 'more'", "$HOME"]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_and_a_version_come_back_in_a_folder_of_any_name(
    name: str, empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / name
    root.mkdir()
    shutil.copy(empty_database, root)
    with mlflow.start_run(experiment_id=connect(root, "plumage")) as run:
        mlflow.log_text("here", "a note.txt")
    client = MlflowClient()
    model = client.create_logged_model("0", "model")
    (tmp_path / "weights").write_text("weights")
    client.log_model_artifact(model.model_id, str(tmp_path / "weights"))
    client.create_registered_model("birds")
    client.create_model_version("birds", f"models:/{model.model_id}", model_id=model.model_id)
    assert load_text(f"{run.info.artifact_uri}/a note.txt") == "here"
    assert Path(download_artifacts("models:/birds/1/weights")).read_text() == "weights"
    assert {path.name for path in root.iterdir()} == {"mlflow.db", "mlartifacts", "mlflow.db.lock"}
    assert {path.name for path in tmp_path.iterdir()} == {name, "weights"}, "nothing appears beside the repository"


def test_a_new_store_is_made_in_a_folder_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "jürgen's C#birds 50% %20 [new]\t?&鳥🐦"
    root.mkdir()
    connect(root, "plumage")
    assert (root / "mlflow.db").is_file() and list(tmp_path.iterdir()) == [root]
    assert {found.artifact_location for found in MlflowClient().search_experiments()} == {
        "file:mlartifacts", "file:mlartifacts/0",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/a/mlflow.db", "/a%20b/ü?#'.db", "mlflow.db"])
def test_the_uri_of_a_store_names_its_database(path: str) -> None:
    assert sqlite_database(sqlite_uri(Path(path))) == Path(path)
    assert not sqlite_database("sqlite:///:memory:") and not sqlite_database("http://127.0.0.1")


def test_a_relative_location_starts_at_the_store_and_not_at_the_working_directory(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(root, "plumage")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    repository = get_artifact_repository("file:mlartifacts/1")
    assert repository.artifact_dir == str(root / "mlartifacts/1")
    monkeypatch.setenv("DVC_ROOT", "/repository")
    server = StoreArtifactRepository("file:mlartifacts/1", "http://127.0.0.1:5000")
    assert server.artifact_dir == "/repository/mlartifacts/1"
    assert get_artifact_repository("file:///chosen/1").artifact_dir == "/chosen/1"


def test_artifacts_of_an_earlier_version_are_beside_a_store_that_was_moved_or_copied(tmp_path: Path) -> None:
    original, copy, chosen = (tmp_path / name for name in ("original", "copy", "chosen"))
    (chosen / "mlartifacts").mkdir(parents=True)

    def place(root: Path) -> str:
        return StoreArtifactRepository(
            (root / "mlartifacts/1/new").as_uri(), sqlite_uri(copy / "mlflow.db")
        ).artifact_dir

    assert place(original) == f"{copy}/mlartifacts/1/new", "the original is gone"
    original.mkdir()
    (original / "mlflow.db").touch()
    assert place(original) == f"{copy}/mlartifacts/1/new"
    assert place(chosen) == f"{chosen}/mlartifacts/1/new"


def test_artifacts_of_a_database_elsewhere_are_beside_it(
    root: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "runs").mkdir()
    shutil.copy(empty_database, root / "runs" / "all.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/all.db")
    with mlflow.start_run(experiment_id=connect(root, "plumage")):
        mlflow.log_text("here", "note.txt")
    assert [path.read_text() for path in (root / "runs" / "mlartifacts").rglob("note.txt")] == ["here"]
    assert not (root / "mlartifacts").exists()


def test_mlflow_without_plumage_finds_the_artifacts_from_the_root(root: Path) -> None:
    with mlflow.start_run(experiment_id=connect(root, "plumage")) as run:
        mlflow.log_text("here", "note.txt")
    get_registered_artifact_repositories()["file"] = LocalArtifactRepository  # until the next `use_store`
    assert load_text(f"runs:/{run.info.run_id}/note.txt") == "here"


def test_any_mlflow_program_finds_the_artifacts_where_plumage_is_installed() -> None:
    (entry,) = {found.value for found in entry_points(group="mlflow.artifact_repository", name="file")}
    assert EntryPoint("file", entry, "mlflow.artifact_repository").load() is StoreArtifactRepository


def test_artifacts_are_deleted_where_they_are(tmp_path: Path) -> None:
    for name in ("a b", "a%20b"):
        (tmp_path / name / "run").mkdir(parents=True)
    StoreArtifactRepository("file:run", sqlite_uri(tmp_path / "a%20b" / "mlflow.db")).delete_artifacts()
    assert (tmp_path / "a b" / "run").is_dir() and not (tmp_path / "a%20b" / "run").exists()
