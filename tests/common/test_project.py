"""The project is found from any of its folders, and never mistaken for another one."""

from pathlib import Path

import pytest

from plumage.common.project import dvc_tmp, project_root, scratch_folder, store_root
from plumage.errors import ProjectError


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def make_project(folder: Path, *more: str) -> Path:
    for name in ("params.yaml", "dvc.yaml", *more):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_nearest_project_above_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer = make_project(tmp_path / "outer", "reports/plots/a.png", "other/dvc.yaml")
    inner = make_project(outer / "data/photos/inner", "jays/1.jpg")
    (tmp_path / "link").symlink_to(outer)
    for start, project in (
        (outer, outer),
        (outer / "reports/plots", outer),
        (outer / "other", outer),
        (outer / "data", outer),
        (inner / "jays", inner),
        (tmp_path / "link/reports", outer),
    ):
        monkeypatch.chdir(start)
        assert project_root() == project


def test_outside_of_a_project_the_line_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError, match=rf"^{tmp_path}: not in a Plumage project .* here or in any folder above"):
        project_root()
    with pytest.raises(ProjectError):
        store_root()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert store_root() == tmp_path
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ProjectError, match="working directory was deleted"):
        project_root()


def test_a_dvc_root_that_was_left_over_does_not_lead_out_of_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, other = make_project(tmp_path / "project", "data/x"), make_project(tmp_path / "other")
    monkeypatch.setenv("DVC_ROOT", str(other))
    monkeypatch.chdir(project / "data")
    assert project_root() == project
    monkeypatch.chdir(tmp_path)
    assert project_root() == other
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "gone"))
    with pytest.raises(ProjectError, match=r"DVC_ROOT is not a folder \(.*gone\)"):
        project_root()


@pytest.mark.parametrize("project", [".", "vision/birds"])
@pytest.mark.parametrize("copy", ["tmpa1b2", "standalone/tmpa1b2"])
def test_an_experiments_copy_stands_for_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: str, copy: str
) -> None:
    """DVC copies the whole Git repository; `.dvc` may be above the project, and below Git's root."""
    dvc_root = tmp_path / "monorepo/dvc"
    copied = dvc_root / ".dvc/tmp/exps" / copy / "dvc"
    for root in (dvc_root, copied):
        make_project(root / project)
        (root / ".dvc").mkdir(exist_ok=True)
    monkeypatch.chdir(copied / project)
    assert project_root() == (dvc_root / project).resolve()
    assert dvc_tmp(copied / project) == copied / ".dvc/tmp"


def test_projects_below_one_dvc_have_their_own_temporary_folders(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    projects = [make_project(tmp_path / name) for name in (".", "birds", "owls")]
    assert {dvc_tmp(project) for project in projects} == {tmp_path / ".dvc/tmp"}
    assert len({scratch_folder(project) for project in projects}) == 3
    assert not (tmp_path / "birds/.dvc").exists(), "DVC would take it for a repository"


def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path / "project", "closed/open/x")
    monkeypatch.chdir(project / "closed/open")
    (project / "closed").chmod(0)  # root may read it all the same
    try:
        assert project_root() == project
    finally:
        (project / "closed").chmod(0o755)
