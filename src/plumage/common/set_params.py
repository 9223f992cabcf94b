"""Undo what `dvc exp run -S` wrote into params.yaml, when a value was wrong. DVC itself leaves it there."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from plumage.common import git
from plumage.common.dvc_files import read_stages, recorded_params
from plumage.common.files import atomic_path
from plumage.common.paths import DVC_LOCK, PARAMS
from plumage.common.project import project_root
from plumage.common.yaml_file import parse_yaml, read_yaml
from plumage.errors import PlumageError

CHECK = "check"
"""The stage whose entry in dvc.lock has the parameters that were right the last time."""
SET_PARAM = re.compile(r"(?:(?P<file>[^:=]+):)?[+~]*(?P<section>\w+)\.(?P<key>\w+)(?:=|$)", re.DOTALL)


def undo_set_params(folder: Path) -> str:
    """Give the keys that the `dvc exp run` above this process has set in `folder` their last right values; "" if there are none.

    Returns a few words about it, to add to an error. A copy of the repository, which DVC removes, stays as it is.
    """
    keys = list(set_keys(_command_line()))
    if not keys or project_root() != folder.resolve():
        return ""
    try:
        _restore(folder, keys)
    except (PlumageError, OSError):
        return ""
    return "; what -S set in params.yaml is undone"


def set_keys(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Section and key of each parameter that a `dvc exp run` sets in params.yaml."""
    given = [after for option, after in pairwise(command) if option in ("-S", "--set-param")]
    given += [
        argument[len(start) :] for argument in command for start in ("-S", "--set-param=") if argument.startswith(start)
    ]
    for found in filter(None, map(SET_PARAM.match, given)):
        if found["file"] in (None, PARAMS.name):
            yield found["section"], found["key"]


def _command_line() -> Sequence[str]:
    """That of the `dvc exp run` that this process runs in; empty if there is none, or the system hides it."""
    with suppress(psutil.Error):
        for process in psutil.Process().parents():
            command = process.cmdline()
            if ("exp", "run") in pairwise(command):
                return command
    return ()


def _restore(folder: Path, keys: Sequence[tuple[str, str]]) -> None:
    from dvc.utils.serialize import modify_yaml

    path, committed = folder / PARAMS, git.committed(folder, PARAMS.name).decode()
    before = recorded_params(read_stages(folder / DVC_LOCK), CHECK) or parse_yaml(committed, PARAMS.name)
    with modify_yaml(str(path)) as params:  # as -S does: comments stay
        for section, key in keys:
            _set_back(params, before, section, key)
    if read_yaml(path) == parse_yaml(committed, PARAMS.name):  # the layout, which DVC may have changed, too
        with atomic_path(path) as beside:
            beside.write_text(committed, encoding="utf-8")


def _set_back(params: dict[str, Any], before: dict[str, Any], section: str, key: str) -> None:
    if key in before.get(section, {}):
        params[section][key] = before[section][key]
    else:
        params[section].pop(key, None)
    if not params[section] and section not in before:
        del params[section]
