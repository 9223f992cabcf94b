"""Every command, in a folder that is no project and in a project without data and runs: one line, and no file appears."""

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from plumage.cli.main import app, main
from plumage.cli.predict import _own_models
from plumage.data.dataset.ingest import ingest
from plumage.data.sources.folder import FolderSource
from plumage.errors import ProjectError

WITHOUT_PROJECT = {"params"}
"""Commands that need no project."""
VARIABLES = ("DVC_ROOT", "MLFLOW_TRACKING_URI")


def commands(app: typer.Typer) -> Iterator[tuple[str, ...]]:
    """Every command with the arguments that it needs, and again with each of its flags, --model and --reason."""
    for command in app.registered_commands:
        assert command.callback is not None
        parameters = inspect.signature(command.callback).parameters.values()
        name = command.name or command.callback.__name__
        needed = tuple("1" for one in parameters if one.default is inspect.Parameter.empty)
        yield (name, *needed)
        for one in parameters:
            option = f"--{one.name.removeprefix('as_').replace('_', '-')}"
            if one.default is False:
                yield (name, *needed, option)
            elif one.name in ("reason", "model"):
                yield (name, *needed, option, "models:/birds/1")
    for group in app.registered_groups:
        assert group.typer_instance is not None and group.name
        yield from ((group.name, *command) for command in commands(group.typer_instance))


EVERY = list(commands(app))


def run(folder: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["plumage", *arguments])
    monkeypatch.setattr(os, "execv", lambda *command: sys.exit(f"error: starts {command}"))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    try:
        main()
    except SystemExit as error:
        if isinstance(error.code, str):
            assert error.code.startswith("error: ") and "\n" not in error.code
            return 1
        return error.code or 0
    return 0


@pytest.mark.parametrize("arguments", EVERY, ids=" ".join)
def test_outside_of_a_project_it_is_one_line_and_no_file(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run(tmp_path, arguments, monkeypatch)
    assert list(tmp_path.iterdir()) == []
    if arguments[0] in WITHOUT_PROJECT:
        assert code == 0
    else:
        assert code == 1 and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("arguments", EVERY, ids=" ".join)
def test_in_a_new_project_no_command_makes_a_store(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("params.yaml", "dvc.yaml", "reports/photo.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = sorted(tmp_path.rglob("*"))
    code = run(tmp_path / "reports", arguments, monkeypatch)
    assert sorted(tmp_path.rglob("*")) == before
    if arguments[0] not in WITHOUT_PROJECT | {"repair"} and arguments != ("data", "check"):
        assert code == 1 and capfd.readouterr() == ("", "")


def test_paths_that_a_user_types_are_relative_to_the_working_directory(
    class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "reports").mkdir()
    ingest(FolderSource(class_folders), tmp_path / "data" / "dataset", min_size=8, max_refused=0)
    assert run(tmp_path / "reports", ("data", "show", "ORIOLE/1.jpg", "--to", "one.jpg"), monkeypatch) == 0
    assert (tmp_path / "reports/one.jpg").read_bytes() == (class_folders / "ORIOLE/1.jpg").read_bytes()
    assert run(tmp_path / "data", ("data", "export", "../copies"), monkeypatch) == 0
    assert (tmp_path / "copies/ORIOLE/1.jpg").is_file()


def test_predict_takes_the_models_of_the_project_or_else_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    for folder in (project / "reports", project / "models", tmp_path / "copy" / "models"):
        folder.mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "models/model.json"):
        (project / name).touch()
    for folder, models in ((project / "reports", project / "models"), (tmp_path / "copy", tmp_path / "copy/models")):
        monkeypatch.chdir(folder)
        assert _own_models().resolve() == models
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match="or give a model with --model"):
        _own_models()
