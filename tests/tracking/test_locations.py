"""A store of an earlier version, with absolute locations, is made portable once, safely, and without losing a file."""

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts, load_text

from plumage.errors import TrackingError
from plumage.tracking.locations import COLUMNS, make_portable
from plumage.tracking.store import connect, use_store


@pytest.fixture
def old(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a run and a version, as an earlier version of Plumage logged them: with absolute locations."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "jürgen's old"
    root.mkdir()
    shutil.copy(empty_database, root)
    with mlflow.start_run(experiment_id=connect(root, "plumage")):
        mlflow.log_text("here", "note.txt")
    client = MlflowClient()
    model = client.create_logged_model(connect(root, "plumage"), "model")
    (tmp_path / "weights").write_text("weights")
    client.log_model_artifact(model.model_id, str(tmp_path / "weights"))
    client.create_registered_model("birds")
    client.create_model_version("birds", f"models:/{model.model_id}", model_id=model.model_id)
    with closing(sqlite3.connect(root / "mlflow.db")) as store, store:
        for table, column in COLUMNS:
            store.execute(f"UPDATE {table} SET {column} = replace({column}, 'file:', '{root.as_uri()}/')")
    monkeypatch.chdir(root)
    return root


def locations(root: Path) -> set[str]:
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        return {found for table, column in COLUMNS for (found,) in store.execute(f"SELECT {column} FROM {table}")}


def are_relative(root: Path, *places: str) -> bool:
    return all(location.startswith(("models:/", *(places or ["file:mlartifacts"]))) for location in locations(root))


def content(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_version() -> str:
    return Path(download_artifacts("models:/birds/1/weights")).read_text()


def test_a_store_becomes_portable_in_one_line_once(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert old.as_uri() in str(locations(old))
    use_store(old)
    said = capsys.readouterr()
    assert are_relative(old) and read_version() == "weights"
    assert said.err.count("\n") == 1 and f"{old}/mlflow.db: artifact locations are relative now" in said.err
    assert said.out == "", "which a command's --json output is"
    use_store(old)
    assert capsys.readouterr().err == ""


def test_a_moved_store_finds_its_files_and_makes_nothing_in_the_old_place(old: Path) -> None:
    moved = old.rename(old.parent / "moved")
    use_store(moved)
    assert are_relative(moved) and read_version() == "weights"
    with mlflow.start_run(experiment_id=connect(moved, "plumage")):
        mlflow.log_text("more", "more.txt")
    assert len(list(moved.rglob("more.txt"))) == 1 and not old.exists()


def test_a_copy_leaves_the_original_as_it_is(old: Path) -> None:
    before, copy = content(old), old.parent / "copy"
    shutil.copytree(old, copy)
    with mlflow.start_run(experiment_id=connect(copy, "plumage")):
        mlflow.log_text("more", "more.txt")
    assert are_relative(copy) and len(list(copy.rglob("more.txt"))) == 1
    assert content(old) == before


@pytest.mark.parametrize("where", [".", "reports"])
def test_an_experiment_that_mlflow_made_in_the_project_moves_with_it(old: Path, where: str) -> None:
    place = old / where / "mlruns"
    use_store(old)
    with mlflow.start_run(experiment_id=MlflowClient().create_experiment("mine", place.as_uri())) as run:
        mlflow.log_text("mine", "mine.txt")
    moved = old.rename(old.parent / "moved")
    use_store(moved)
    assert are_relative(moved, "file:mlartifacts", f"file:{Path(where, 'mlruns')}")
    assert load_text(f"runs:/{run.info.run_id}/mine.txt") == "mine"


def test_files_that_an_earlier_version_wrote_to_the_old_place_after_a_move_are_named(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = old.rename(old.parent / "moved")
    (note,) = moved.rglob("note.txt")
    later = (old / note.relative_to(moved)).with_name("later.txt")
    later.parent.mkdir(parents=True)
    later.write_text("later")
    use_store(moved)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "; 1 file is only in " in said
    subprocess.run(said.split("copy them: ")[1], shell=True, check=True)
    assert note.with_name("later.txt").read_text() == "later" and later.exists()


def test_locations_that_a_person_chose_stay(old: Path, tmp_path: Path) -> None:
    chosen = {"s3://bucket/mlartifacts", (tmp_path / "data" / "mlartifacts").as_uri(), "file:///nowhere/artifacts"}
    (tmp_path / "data").mkdir()
    use_store(old)
    for number, location in enumerate(chosen):
        experiment = MlflowClient().create_experiment(str(number), location)
        if "data" in location:
            with mlflow.start_run(experiment_id=experiment):
                mlflow.log_text("chosen", "chosen.txt")
    before = locations(old)
    use_store(old)
    assert locations(old) == before > chosen
    assert len(list((tmp_path / "data").rglob("chosen.txt"))) == 1


def test_a_database_copied_alone_writes_here_and_says_where_its_files_are(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = old.parent / "alone"
    alone.mkdir()
    shutil.copy(old / "mlflow.db", alone)
    use_store(alone)
    assert are_relative(alone) and f"2 files are only in '{old.parent}" in capsys.readouterr().err


def test_an_interrupted_change_changes_nothing(old: Path) -> None:
    before = locations(old)
    with closing(sqlite3.connect(old / "mlflow.db")) as store, store:
        store.execute("CREATE TRIGGER stop BEFORE UPDATE ON model_versions BEGIN SELECT RAISE(ABORT, 'stopped'); END")
    with pytest.raises(TrackingError, match="stopped"):
        use_store(old)
    assert locations(old) == before
    with closing(sqlite3.connect(old / "mlflow.db")) as store, store:
        store.execute("DROP TRIGGER stop")
    use_store(old)
    assert are_relative(old)


def test_the_same_store_through_a_link_has_one_place(old: Path) -> None:
    link = old.parent / "link"
    link.symlink_to(old)
    use_store(link)
    assert are_relative(old) and read_version() == "weights"


def test_a_store_on_a_read_only_disk_is_read(old: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "--bind", str(old), str(disk)]
    remount = ["mount", "-o", "remount,bind,ro", str(disk)]
    for command in (mount, remount):
        mounted = subprocess.run(command, capture_output=True)
        if mounted.returncode:
            pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        before = locations(disk)
        moved = old.rename(old.parent / "moved")
        use_store(disk)
        assert read_version() == "weights" and locations(disk) == before
        make_portable(moved / "mlflow.db")
        assert read_version() == "weights" and are_relative(disk)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # SQLAlchemy keeps the database open
