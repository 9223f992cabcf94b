"""Check that the working tree's files match dvc.lock, params.yaml and the code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from plumage.common.merge_conflicts import check_merged
from plumage.common.redaction import redacted
from plumage.common.text import is_or_are, some
from plumage.errors import PipelineError


def check_current(root: Path, photos: str, last_stage: str) -> None:
    """Check that the outputs of `last_stage` and of the stages before it are up to date, as `dvc status` does.

    The source photos at `photos` (`data.path`) may be missing: a clone has the data set, but not the photos.

    Raises:
        ProjectError: a file is in a merge conflict.
        PipelineError: an output is missing or changed, or one of its dependencies has changed since.
    """
    check_merged(root)
    command = [sys.executable, "-m", "dvc", "status", "--json", "--with-deps", last_stage]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise PipelineError(f"dvc status: {error_line(done.stderr)}")
    missing, changed = [], []
    for stage, entries in json.loads(done.stdout).items():
        for entry in entries:
            if not isinstance(entry, dict):
                changed.append(f"{stage}: {entry}")
                continue
            outs = entry.get("changed outs", {})
            missing += [path for path, state in outs.items() if state in ("deleted", "not in cache")]
            changed += [path for path, state in outs.items() if state not in ("deleted", "not in cache")]
            changed += [path for path in _inputs(entry.get("changed deps", {})) if path != photos]
    if missing:
        raise PipelineError(f"{_first(missing)} missing from the working tree; run `dvc checkout` or `dvc pull`")
    if changed:
        raise PipelineError(f"{_first(changed)} changed since the model was made; run `dvc repro`")


def error_line(said: str) -> str:
    """The reason in DVC's stderr, between its warnings and its advice where to get help."""
    lines = said.strip().splitlines() or ["it failed"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return redacted((errors or lines)[-1])


def _inputs(dependencies: dict[str, Any]) -> list[str]:
    """The paths of changed dependencies, with the keys of a parameter file."""
    return [
        name
        for path, state in dependencies.items()
        for name in ([f"{path}: {key}" for key in state] if isinstance(state, dict) else [path])
    ]


def _first(names: list[str], limit: int = 3) -> str:
    """The first `limit` names, with "is" or "are"."""
    unique = list(dict.fromkeys(names))
    return f"{some(unique, limit)} {is_or_are(len(unique))}"
