"""Uncommitted changes are recorded without the files that may hold a secret, and these are named."""

import subprocess
from pathlib import Path

import pytest

from plumage.tracking.diff_secrets import left_out
from plumage.tracking.lineage import uncommitted

FILES = {
    ".env": "BIRDS=hunter2",
    "keys/ID_RSA": "hunter2",
    "secrets/prod.yaml": "a: hunter2",
    "config.ini": "password = hunter2",
    "code.py": "url = 'https://me:hunter2@host/x'",
    'ü "x".py': "key = 'hunter2Zq8Kd03LmWx7TgVb1Rn'",
    "utf16.txt": "password = hunter2",
    "harmless.py": "password = getpass()",
    "secrets.py": "print('fine')",
}


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", *arguments], cwd=folder, check=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "state")
    return tmp_path


def test_files_with_secrets_are_left_out_and_named(repository: Path) -> None:
    for name, text in FILES.items():
        (repository / name).write_text(f"{text}\n", encoding="utf-16" if name == "utf16.txt" else "utf-8")
    diff = uncommitted(repository)
    assert diff is not None and b"hunter2" not in diff
    assert left_out(diff).keys() == FILES.keys() - {"harmless.py", "secrets.py"}
    git(repository, "checkout", "-q", ".")
    (repository / ".git/uncommitted.diff").write_bytes(diff)
    git(repository, "apply", ".git/uncommitted.diff")
    assert (repository / "harmless.py").read_text() == "password = getpass()\n"


@pytest.mark.parametrize(
    "before",
    ["password = hunter2\na = 1\n", "a = 1\npassword = hunter2\n", "PASSWORD=hunter2\n" + "\n" * 9 + "a = 1\n"],
)
def test_a_committed_secret_near_a_change_is_left_out(repository: Path, before: str) -> None:
    (repository / "config.ini").write_text(before)
    git(repository, "commit", "-qam", "a mistake")
    for after in (before.replace("a = 1", "a = 2"), before.replace("hunter2", "$PASSWORD"), ""):
        (repository / "config.ini").write_text(after)
        assert b"hunter2" not in (uncommitted(repository) or b"")


def test_a_project_below_the_repository_s_top_names_files_from_there(repository: Path) -> None:
    project = repository / "project"
    project.mkdir()
    for name in ("dvc.yaml", "token.bin"):
        (project / name).write_text("stages: {}")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "project")
    (project / "token.bin").write_bytes(b"\0\1token = 'hunter2'\n")
    assert left_out(uncommitted(project) or b"") == {"project/token.bin": "a line looks like a password or token"}
