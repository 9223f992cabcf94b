"""What a run was made from, as tags: the commit of the code and DVC's hashes of the pipeline's outputs."""

import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

import plumage


def lineage_tags(folder: Path, stage: str) -> dict[str, str]:
    """The tags of a run of `stage` in the working tree `folder`.

    `plumage.version`; `git.commit` and `git.dirty` where there is git; `dvc.<path>` for every output of the stages
    before this one.
    """
    return {"plumage.version": plumage.__version__} | _git(folder) | _dvc(folder, stage)


def _git(folder: Path) -> dict[str, str]:
    """Commit, and whether a tracked file differs from it. What the pipeline itself writes does not count."""
    written = [path for spec in _stages(folder / "dvc.yaml").values() for path in _outputs(spec)]
    try:
        commit = _run(folder, "git", "rev-parse", "HEAD")
        excluded = [f":(exclude,literal){path}" for path in ["dvc.lock", *written]]
        changes = _run(folder, "git", "status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"git.commit": commit, "git.dirty": "true" if changes else "false"}


def _dvc(folder: Path, stage: str) -> dict[str, str]:
    """Hashes of the outputs of all stages before `stage`: its own and later ones in dvc.lock are of an older run."""
    stages, locked = _stages(folder / "dvc.yaml"), _stages(folder / "dvc.lock")
    maker = {path: name for name, spec in stages.items() for path in _outputs(spec)}
    before: list[str] = []
    waiting = [stage]
    while waiting:
        for dependency in stages.get(waiting.pop(), {}).get("deps", []):
            path = PurePosixPath(dependency)
            name = next((maker[str(part)] for part in [path, *path.parents] if str(part) in maker), None)
            if name is not None and name not in before:
                before.append(name)
                waiting.append(name)
    outputs = [output for name in before for output in locked.get(name, {}).get("outs", [])]
    return {f"dvc.{output['path']}": output["md5"] for output in outputs if "md5" in output}


def _stages(path: Path) -> dict[str, Any]:
    """The stages of a dvc.yaml or dvc.lock; none where there is no such file."""
    if not path.is_file():
        return {}
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages") or {}


def _outputs(spec: dict[str, Any]) -> list[str]:
    """The output paths of a stage in dvc.yaml, where one is a string or {path: options}."""
    entries = [entry for key in ("outs", "metrics", "plots") for entry in spec.get(key, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
