"""A run's tags tell which code and which data produced it."""

import subprocess
from pathlib import Path

import pytest

from plumage.tracking.execution import begin_execution
from plumage.tracking.lineage import MAX_DIFF_BYTES, lineage_tags, locked_hashes, uncommitted
from plumage.tracking.machine import environment

DVC_YAML = """
stages:
  download: {cmd: x, outs: [data/dataset], metrics: [reports/data.json: {cache: false}]}
  split: {cmd: x, deps: [data/dataset/classes.json], outs: [data/splits.csv]}
  train: {cmd: x, deps: [data/splits.csv, src/train.py], outs: [models/model.safetensors]}
  evaluate: {cmd: x, deps: [models/model.safetensors], metrics: [reports/metrics.json: {cache: false}]}
"""
DVC_LOCK = """
schema: '2.0'
stages:
  download: {cmd: x, outs: [{path: data/dataset, md5: aa.dir}, {path: reports/data.json, md5: bb}]}
  split: {cmd: x, outs: [{path: data/splits.csv, md5: cc}]}
  train: {cmd: x, outs: [{path: models/model.safetensors, md5: dd}]}
  evaluate: {cmd: x, outs: [{path: reports/metrics.json, md5: ee}]}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "dvc.lock").write_text(DVC_LOCK)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/.gitignore").touch()
    for name in ("params.yaml", "reports/metrics.json"):
        (tmp_path / name).write_text("{}")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b.invalid", "commit", "-qm", "birds")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_outputs_of_the_pipeline_do_not_make_the_tree_dirty(repository: Path) -> None:
    (repository / "dvc.lock").write_text(DVC_LOCK + "  register: {cmd: x}\n")
    (repository / "reports/metrics.json").unlink()
    (repository / "reports/.gitignore").write_text("/data.json\n/metrics.json\n")
    (repository / "untracked.txt").touch()
    tags = lineage_tags(repository, "train")
    assert tags["git.commit"] == git(repository, "rev-parse", "HEAD")
    assert tags["git.dirty"] == "false"


def test_a_changed_tracked_file_is_dirty(repository: Path) -> None:
    (repository / "params.yaml").write_text("train: {lr: 1}")
    assert lineage_tags(repository, "train")["git.dirty"] == "true"


def test_only_outputs_of_earlier_stages_are_tagged(repository: Path) -> None:
    hashes = {key: value for key, value in lineage_tags(repository, "train").items() if key.startswith("dvc.")}
    assert hashes == {"dvc.data/dataset": "aa.dir", "dvc.reports/data.json": "bb", "dvc.data/splits.csv": "cc"}
    assert lineage_tags(repository, "evaluate")["dvc.models/model.safetensors"] == "dd"
    assert "dvc.data/dataset" not in lineage_tags(repository, "download")


def test_without_git_and_dvc_there_is_only_the_version_and_the_reason(tmp_path: Path) -> None:
    assert list(lineage_tags(tmp_path, "train")) == ["plumage.version", "git.unknown"]
    assert lineage_tags(tmp_path, "train")["git.unknown"] == f"{tmp_path} is not in a Git repository"


def test_train_and_register_say_why_no_commit_is_recorded(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in ("train", "evaluate", "register"):
        begin_execution(root, "plumage", "key", {}, stage)
    assert capsys.readouterr().out == f"no commit is recorded: {root} is not in a Git repository\n" * 2


def test_uncommitted_changes_can_be_applied_and_leave_out_what_the_pipeline_wrote(repository: Path) -> None:
    assert uncommitted(repository) is None
    (repository / "params.yaml").write_bytes(b"train: {lr: 1}\r\n# \xff not UTF-8\n")
    (repository / "dvc.lock").write_text(DVC_LOCK + "  register: {cmd: x}\n")
    (repository / "reports/metrics.json").write_text('{"accuracy": 1}')
    changes = uncommitted(repository)
    assert changes is not None and b"params.yaml" in changes
    assert b"dvc.lock" not in changes and b"metrics.json" not in changes
    changed = (repository / "params.yaml").read_bytes()
    (repository / "changes.diff").write_bytes(changes)
    git(repository, "checkout", "params.yaml")
    git(repository, "apply", "changes.diff")
    assert (repository / "params.yaml").read_bytes() == changed


def test_a_diff_too_long_to_be_code_is_not_kept(repository: Path) -> None:
    (repository / "params.yaml").write_text("# birds\n" * (MAX_DIFF_BYTES // 8))
    assert uncommitted(repository) is None
    assert lineage_tags(repository, "train")["git.dirty"] == "true"


def test_the_environment_names_packages_and_the_machine() -> None:
    found = environment()
    assert {"torch", "mlflow", "dvc"} <= found["packages"].keys()
    assert found["machine"].keys() == {"processor", "cores", "memory", "gpu", "system", "python", "torch"}
    assert all(found["machine"].values())


def test_hashes_of_all_outputs_are_read_from_the_lock(repository: Path) -> None:
    hashes = locked_hashes(repository / "dvc.lock")
    assert hashes["data/dataset"] == "aa.dir" and hashes["reports/metrics.json"] == "ee"
    assert locked_hashes(repository / "none.lock") == {}
