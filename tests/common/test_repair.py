"""A DVC that was killed while it wrote its files can be used again."""

import subprocess
from pathlib import Path

import pytest
from dvc.lock import Lock

from plumage.common.repair import repair

WHOLE = "schema: '2.0'\nstages:\n  download:\n    cmd: python pipeline/download.py\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_text(WHOLE)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "dvc.lock"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("end", [b"- path: data\n      size", b"- pa", b"-", b"- path: half a letter, \xc3"])
def test_a_half_written_dvc_lock_is_as_git_has_it(root: Path, end: bytes) -> None:
    (root / "dvc.lock").write_bytes(WHOLE.encode() + b"    deps:\n    " + end)
    (line,) = repair(root)
    assert "dvc.lock: was half-written" in line
    assert (root / "dvc.lock").read_text() == WHOLE


def test_an_empty_dvc_lock_that_git_does_not_know_is_removed(root: Path) -> None:
    subprocess.run(["git", "rm", "-q", "--cached", "dvc.lock"], cwd=root, check=True)
    (root / "dvc.lock").write_text("")
    assert len(repair(root)) == 1
    assert not (root / "dvc.lock").exists()


def test_an_empty_lock_of_running_commands_is_removed(root: Path) -> None:
    (root / ".dvc" / "tmp" / "rwlock").touch()
    (line,) = repair(root)
    assert "rwlock: was half-written" in line
    assert not (root / ".dvc" / "tmp" / "rwlock").exists()


def test_whole_files_and_missing_ones_are_left_alone(root: Path) -> None:
    changed = WHOLE + "# by hand\n"
    (root / "dvc.lock").write_text(changed)
    (root / ".dvc" / "tmp" / "rwlock").write_text("{}")
    assert repair(root) == []
    assert (root / "dvc.lock").read_text() == changed
    (root / "dvc.lock").unlink()
    (root / ".dvc" / "tmp" / "rwlock").unlink()
    assert repair(root) == []


def test_copies_that_dvc_did_not_finish_are_removed_when_no_dvc_is_at_work(root: Path) -> None:
    names = [f"{folder}/.JZx9BOC07vLRGkoYkiE-_A.tmp" for folder in ("data", "reports", "reports/plots")]
    others = ["reports/.hidden", "reports/JZx9BOC07vLRGkoYkiEJYA.tmp", "models/.short.tmp"]
    for name in names + others:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    lock = Lock(str(root / ".dvc" / "tmp" / "lock"))
    with lock:
        assert repair(root) == [], "a DVC is at work, and it may be its copies"
    assert len(repair(root)) == 3
    assert not any((root / name).exists() for name in names)
    assert all((root / name).exists() for name in others)
    assert repair(root) == []
