"""The report's head names the commit that changed code or parameters, which later commits of results leave as it is."""

import json
import subprocess
from pathlib import Path

from plumage.evaluation.provenance import provenance


def git(folder: Path, *arguments: str, date: str = "2026-01-02T03:04:05+0100") -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    environment = {"PATH": "/usr/bin:/bin", **identity, "GIT_COMMITTER_DATE": date, "HOME": str(folder)}
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_the_last_commit_of_code_and_parameters_its_date_and_changes_since(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "run.json").write_text(json.dumps({"training_key": "885135d64b136c0e"}))
    assert provenance(tmp_path, {}).why_no_commit.endswith("is not in a Git repository")
    for name in ("params.yaml", "dvc.yaml", "README.md"):
        (tmp_path / name).write_text("a: 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "code")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    hashes = {"data/dataset": "abc.dir", "data/splits.csv": "def"}
    found = provenance(tmp_path, hashes)
    assert (found.commit, found.committed, found.uncommitted) == (commit, "2026-01-02 02:04 UTC", False)
    assert (found.training_key, found.dataset_hash, found.splits_hash) == ("885135d64b136c0e", "abc", "def")
    (tmp_path / "README.md").write_text("b\n")
    git(tmp_path, "commit", "-qam", "results", date="2026-05-05T05:05:05+0000")
    assert provenance(tmp_path, hashes) == found
    (tmp_path / "params.yaml").write_text("a: 2\n")
    assert provenance(tmp_path, hashes) == found._replace(uncommitted=True)
