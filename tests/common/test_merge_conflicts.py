"""During a merge conflict commands name the files in conflict, say what to do, and delete nothing."""

import subprocess
from pathlib import Path

import pytest

from plumage.common.merge_conflicts import check_merged
from plumage.common.repair import repair
from plumage.errors import ConfigError, ProjectError
from plumage.params import load_params

LOCK = "schema: '2.0'\nstages:\n  download:\n    cmd: {}\n"
FILES = ["params.yaml", "dvc.yaml", "dvc.lock", "src/code.py"]


def git(root: Path, *arguments: str, fails: bool = False) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "core.editor=true")
    done = subprocess.run(["git", *who, *arguments], cwd=root, capture_output=True, text=True)
    assert bool(done.returncode) == fails, done.stdout + done.stderr


def write(root: Path, text: str) -> None:
    for name in FILES:
        (root / name).write_text(LOCK.format(text))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with the branches `ours`, checked out, and `theirs`, which differ in every file."""
    (tmp_path / "src").mkdir()
    git(tmp_path, "init", "-q")
    git(tmp_path, "checkout", "-qb", "base")
    write(tmp_path, "base")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "base")
    for branch in ("theirs", "ours"):
        git(tmp_path, "checkout", "-qb", branch, "base")
        write(tmp_path, branch)
        git(tmp_path, "commit", "-qam", branch)
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in FILES}


def stash(root: Path) -> None:
    write(root, "stashed")
    git(root, "stash")
    git(root, "checkout", "-q", "theirs")


@pytest.mark.parametrize("command", ["merge theirs", "rebase theirs", "cherry-pick theirs", "stash pop"])
def test_every_kind_of_conflict_is_named_and_nothing_is_deleted(root: Path, command: str) -> None:
    if command == "stash pop":
        stash(root)
    git(root, *command.split(), fails=True)
    before = contents(root)
    with pytest.raises(ProjectError) as caught:
        repair(root)
    said = str(caught.value)
    assert said.startswith("params.yaml, dvc.yaml, dvc.lock, src/code.py: in a merge conflict; ") and "\n" not in said
    assert "`git checkout --ours params.yaml dvc.yaml dvc.lock src/code.py`" in said
    assert contents(root) == before
    git(root, "checkout", "--ours", *FILES)
    assert repair(root) == [], "resolved, though not added yet"


def test_markers_count_without_a_merge_and_without_git(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train:\n<<<<<<< HEAD\n  lr: 1\n=======\n  lr: 2\n>>>>>>> other\n")
    with pytest.raises(ProjectError, match=r"^params\.yaml: in a merge conflict"):
        check_merged(tmp_path)
    with pytest.raises(ConfigError, match=r"params\.yaml: in a merge conflict") as caught:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)


def test_a_truncated_lock_in_a_conflict_is_not_deleted(root: Path) -> None:
    git(root, "merge", "theirs", fails=True)
    git(root, "checkout", "--ours", *FILES)
    (root / "dvc.lock").write_text("schema: '2.0'\nstages:\n  down")
    before = contents(root)
    with pytest.raises(ProjectError, match=r"dvc\.lock: in a merge conflict"):
        repair(root)
    assert contents(root) == before
