"""A repository can be used again after DVC was killed while writing."""

import subprocess
from pathlib import Path

import pytest
from dvc.lock import Lock

from plumage.common.repair import repair

VALID = "schema: '2.0'\nstages:\n  download:\n    cmd: python pipeline/download.py\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_text(VALID)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "dvc.lock"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("end", [b"- path: data\n      size", b"- pa", b"-", b"- path: half a character, \xc3"])
def test_a_truncated_dvc_lock_is_restored_from_git(root: Path, end: bytes) -> None:
    (root / "dvc.lock").write_bytes(VALID.encode() + b"    deps:\n    " + end)
    (line,) = repair(root)
    assert "dvc.lock: was truncated" in line
    assert (root / "dvc.lock").read_text() == VALID


def test_an_empty_dvc_lock_that_git_does_not_track_is_removed(root: Path) -> None:
    subprocess.run(["git", "rm", "-q", "--cached", "dvc.lock"], cwd=root, check=True)
    (root / "dvc.lock").write_text("")
    assert len(repair(root)) == 1
    assert not (root / "dvc.lock").exists()


def test_an_empty_rwlock_is_removed(root: Path) -> None:
    (root / ".dvc" / "tmp" / "rwlock").touch()
    (line,) = repair(root)
    assert "rwlock: was truncated" in line
    assert not (root / ".dvc" / "tmp" / "rwlock").exists()


def test_valid_and_missing_files_are_left_alone(root: Path) -> None:
    changed = VALID + "# edited\n"
    (root / "dvc.lock").write_text(changed)
    (root / ".dvc" / "tmp" / "rwlock").write_text("{}")
    assert repair(root) == []
    assert (root / "dvc.lock").read_text() == changed
    (root / "dvc.lock").unlink()
    (root / ".dvc" / "tmp" / "rwlock").unlink()
    assert repair(root) == []


def test_unfinished_copies_are_removed_unless_dvc_is_running(root: Path) -> None:
    names = [f"{folder}/.JZx9BOC07vLRGkoYkiE-_A.tmp" for folder in ("data", "reports", "reports/plots")]
    others = ["reports/.hidden", "reports/JZx9BOC07vLRGkoYkiEJYA.tmp", "models/.short.tmp"]
    for name in names + others:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    lock = Lock(str(root / ".dvc" / "tmp" / "lock"))
    with lock:
        assert repair(root) == [], "DVC is running, and may be making these copies"
    assert len(repair(root)) == 3
    assert not any((root / name).exists() for name in names)
    assert all((root / name).exists() for name in others)
    assert repair(root) == []
