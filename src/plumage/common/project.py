"""Find the project: the nearest folder, at or above the working directory, that has params.yaml beside dvc.yaml.

Git's repository and DVC's may start further up: a project can be a folder of a larger repository.
"""

import os
from pathlib import Path

from plumage.common.paths import DVC_FOLDER, DVC_TMP, DVC_YAML, EXPERIMENTS, PARAMS
from plumage.errors import ProjectError


def project_root() -> Path:
    """The project's folder. For a stage in an experiment's copy, the original's folder.

    The working directory decides. DVC_ROOT counts only outside a project, because DVC keeps a leftover value.

    Raises:
        ProjectError: no project was found; the message says where Plumage looked.
    """
    here = working_directory()
    if found := _nearest(here):
        return _original(found)
    what = f"{here}: not in a Plumage project (no {PARAMS} beside a {DVC_YAML} here or in any folder above)"
    given = os.environ.get("DVC_ROOT")
    if not given:
        raise ProjectError(f"{what}; `cd` into one")
    if not Path(given).is_dir():
        raise ProjectError(f"{what}, and DVC_ROOT is not a folder ({given}); `cd` into one")
    return Path(given).resolve()


def working_directory() -> Path:
    """The working directory, without links.

    Raises:
        ProjectError: it was deleted.
    """
    try:
        return Path.cwd().resolve()
    except FileNotFoundError:
        raise ProjectError("the working directory was deleted; `cd` into a Plumage project") from None


def store_root() -> Path:
    """The folder whose MLflow store to read: the project, or, if MLFLOW_TRACKING_URI is set, any working directory.

    Raises:
        ProjectError: as `project_root`.
    """
    try:
        return project_root()
    except ProjectError:
        if "MLFLOW_TRACKING_URI" not in os.environ:
            raise
        return Path.cwd()


def dvc_tmp(project: Path) -> Path:
    """DVC's folder for temporary files, which Git and DVC ignore. Its `.dvc` may be above the project."""
    return _dvc_root(project.resolve()) / DVC_TMP


def scratch_folder(project: Path) -> Path:
    """Plumage's own folder for temporary files and locks, below `dvc_tmp`."""
    project = project.resolve()
    return dvc_tmp(project) / project.relative_to(_dvc_root(project))


def _nearest(folder: Path) -> Path | None:
    return next((path for path in (folder, *folder.parents) if _is_project(path)), None)


def _is_project(folder: Path) -> bool:
    try:
        return (folder / PARAMS).is_file() and (folder / DVC_YAML).is_file()
    except PermissionError:
        return False


def _original(project: Path) -> Path:
    """The original of a copy that DVC made; `project` itself if it is not a copy."""
    depth = len(EXPERIMENTS.parts)
    copies = next((path for path in project.parents if path.parts[-depth:] == EXPERIMENTS.parts), None)
    if copies is None:
        return project
    return copies.parents[depth - 1] / project.relative_to(_dvc_root(project))


def _dvc_root(project: Path) -> Path:
    candidates = (project, *project.parents)
    return next((path for path in candidates if (path / DVC_FOLDER).is_dir()), project)
