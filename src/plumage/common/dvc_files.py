"""What dvc.yaml and dvc.lock say about the stages."""

import copy
from pathlib import Path, PurePosixPath
from typing import Any

from plumage.common.paths import CHECKED, PARAMS
from plumage.common.yaml_file import parse_yaml, read_text

Stages = dict[str, Any]
"""The stages of a dvc.yaml or dvc.lock, by name."""
_PARSED: dict[str, Stages] = {}
"""By text: a process reads the same files several times, and parsing dvc.lock takes a tenth of a second."""


def read_stages(path: Path) -> Stages:
    """The stages of a dvc.yaml or dvc.lock; empty if the file does not exist. ConfigError if it can't be read."""
    if not path.is_file():
        return {}
    text = read_text(path)
    if text not in _PARSED:
        _PARSED[text] = parse_yaml(text, str(path)).get("stages") or {}
    return copy.deepcopy(_PARSED[text])


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
