"""What DVC says about the working tree is passed on in one line, whatever a person's configuration of DVC is."""

import subprocess
from pathlib import Path

import pytest

from plumage.common.dvc_status import check_current
from plumage.errors import PipelineError


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository with a stage that has not run."""
    for name in ("DVC_GLOBAL_CONFIG_DIR", "DVC_ROOT", "DVC_SITE_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    (tmp_path / "dvc.yaml").write_text("stages: {evaluate: {cmd: echo, outs: [metrics.json]}}\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def refusal(root: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        check_current(root, "data/photos", "evaluate")
    return str(caught.value)


def test_a_configuration_of_dvc_changes_nothing(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("dvc")
    (folder / "config").write_text("[core]\nautostage = true\nremote = gone\n['remote \"gone\"']\nurl = s3://gone\n")
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(folder))
    monkeypatch.setenv("DVC_ROOT", "/another/repository")
    assert refusal(repository).startswith("metrics.json is missing from the working tree")


def test_a_reason_of_dvc_is_passed_on(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "file").touch()
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(repository / "file" / "cache"))
    assert "Not a directory" in refusal(repository)
