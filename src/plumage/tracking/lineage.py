"""What produced a run: Git commit and uncommitted changes, DVC's hashes, and the files that record its environment."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import plumage
from plumage.common import git
from plumage.common.dvc_files import earlier_stages, outputs_of, read_stages
from plumage.common.files import naming, write_json, write_text
from plumage.common.paths import DVC_LOCK, DVC_YAML, LABELS
from plumage.common.redaction import redacted
from plumage.common.text import shown
from plumage.errors import GitError
from plumage.tracking.diff_secrets import left_out, without_secrets
from plumage.tracking.tags import DVC, GIT_COMMIT, GIT_DIRTY, GIT_UNKNOWN, VERSION

PACKAGES_FILE, MACHINE_FILE, DIFF_FILE = "packages.txt", "machine.json", "uncommitted.diff"
MAX_DIFF_BYTES = 1_000_000
"""Longer uncommitted changes are not kept: they are data, not code."""


def lineage_tags(folder: Path, stage: str) -> dict[str, str]:
    """Tags for a run of `stage` in the working tree `folder`.

    Plumage's version; the commit and whether tracked files differ from it, or why Git does not tell; the hash of every
    output of the stages before this one.
    """
    return {VERSION: plumage.__version__} | _git_tags(folder) | _dvc_tags(folder, stage)


def uncommitted(folder: Path) -> bytes | None:
    """Changes of tracked files since the commit, for `git apply`, without the files that the pipeline writes.

    Files that may hold a secret are left out and named (`plumage.tracking.diff_secrets`). None if there are no changes, Git
    does not tell, or they exceed MAX_DIFF_BYTES.
    """
    try:
        git.commit_of(folder, DVC_YAML.name)
        diff = git.patch(folder, _pathspec_of_sources(folder))
        return without_secrets(diff, git.top(folder)) if 0 < len(diff) <= MAX_DIFF_BYTES else None
    except GitError:
        return None


def write_lineage(folder: Path, repository: Path, recorded: Mapping[str, Any]) -> list[Path]:
    """Write lineage that is too long for tags to `folder`: packages, machine and uncommitted changes. Return the files.

    `recorded` is what `plumage.tracking.machine.environment` returned in the training's process. Prints what is left out of the changes.
    """
    packages, machine, diff = folder / PACKAGES_FILE, folder / MACHINE_FILE, folder / DIFF_FILE
    write_text(packages, "".join(f"{name}=={version}\n" for name, version in recorded["packages"].items()))
    write_json(machine, recorded["machine"])
    if (changes := uncommitted(repository)) is None:
        return [packages, machine]
    for name, why in left_out(changes).items():
        print(f"uncommitted changes of {shown(name)} are not recorded: {why}", flush=True)
    with naming(diff):
        diff.write_bytes(changes)
    return [packages, machine, diff]


def publishable(path: Path, folder: Path) -> Path:
    """A copy of a text file in `folder` without the secrets in it: params.yaml and dvc.lock may have an address with a login."""
    copy = folder / path.name
    write_text(copy, redacted(path.read_text(encoding="utf-8")))
    return copy


def _git_tags(folder: Path) -> dict[str, str]:
    """The commit, and whether a tracked file differs from it. Files that the pipeline writes do not count."""
    try:
        commit = git.commit_of(folder, DVC_YAML.name)
        dirty = git.is_dirty(folder, _pathspec_of_sources(folder))
    except GitError as error:
        return {GIT_UNKNOWN: str(error)}
    return {GIT_COMMIT: commit, GIT_DIRTY: "true" if dirty else "false"}


def _pathspec_of_sources(folder: Path) -> list[str]:
    """Git pathspec that excludes the pipeline's outputs and the .gitignore files beside them, which DVC edits."""
    written = [path for spec in read_stages(folder / DVC_YAML).values() for path in outputs_of(spec)]
    ignoring = {str(PurePosixPath(path).parent / ".gitignore") for path in written}
    return [".", *(f":(exclude,literal){path}" for path in [str(DVC_LOCK), *written, *sorted(ignoring)])]


def _dvc_tags(folder: Path, stage: str) -> dict[str, str]:
    """Hashes of data/labels.csv and of the outputs of all stages before `stage`; dvc.lock has outdated ones of later stages."""
    stages, locked = read_stages(folder / DVC_YAML), read_stages(folder / DVC_LOCK)
    made = [locked.get(name, {}) for name in earlier_stages(stages, stage)]
    labels = [{"outs": [dep for dep in spec.get("deps", []) if dep["path"] == LABELS.as_posix()]} for spec in made]
    return {f"{DVC}{path}": digest for path, digest in _hashes([*made, *labels]).items()}


def locked_hashes(lock: Path) -> dict[str, str]:
    """DVC's hash of each output in a dvc.lock, by path."""
    return _hashes(read_stages(lock).values())


def _hashes(stages: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Hash by path of each output of these stages from a dvc.lock."""
    outputs = [output for spec in stages for output in spec.get("outs", [])]
    return {output["path"]: output["md5"] for output in outputs if "md5" in output}
