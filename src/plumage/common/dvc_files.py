"""What dvc.yaml and dvc.lock say about the stages."""

from pathlib import Path, PurePosixPath
from typing import Any

from plumage.common.paths import CHECKED, PARAMS
from plumage.common.yaml_file import read_dvc_file

Stages = dict[str, Any]
"""The stages of a dvc.yaml or dvc.lock, by name."""


def read_stages(path: Path) -> Stages:
    """The stages of a dvc.yaml or dvc.lock; empty if the file does not exist. ConfigError if it can't be read."""
    return (read_dvc_file(path).get("stages") or {}) if path.is_file() else {}


def outputs_of(spec: dict[str, Any]) -> list[str]:
    """Output paths of a stage in dvc.yaml. An entry is a path, or {path: options}."""
    entries = [entry for key in ("outs", "metrics", "plots") for entry in spec.get(key, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def earlier_stages(stages: Stages, stage: str) -> list[str]:
    """The stages of a dvc.yaml that `stage` depends on, directly or not, except the one that only checks params.yaml."""
    maker = {path: name for name, spec in stages.items() for path in outputs_of(spec) if path != CHECKED.as_posix()}
    before: list[str] = []
    waiting = [stage]
    while waiting:
        for dependency in stages.get(waiting.pop(), {}).get("deps", []):
            path = PurePosixPath(dependency)
            name = next((maker[str(at)] for at in [path, *path.parents] if str(at) in maker), None)
            if name is not None and name not in before:
                before.append(name)
                waiting.append(name)
    return before


def recorded_params(locked: Stages, stage: str) -> dict[str, Any]:
    """The sections of params.yaml that dvc.lock has for `stage`, as it ran."""
    recorded: dict[str, Any] = locked.get(stage, {}).get("params", {}).get(PARAMS.name, {})
    return recorded
