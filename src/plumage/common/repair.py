"""Repair what DVC may leave when it is killed while writing: truncated files of its own, and unfinished copies."""

import json
import re
from pathlib import Path

from plumage.common import git
from plumage.common.files import atomic_path, remove
from plumage.common.merge_conflicts import check_merged, conflict_line
from plumage.common.paths import DATA, DVC_LOCK, MODELS, REPORTS
from plumage.common.project import dvc_tmp
from plumage.errors import GitError, ProjectError

UNFINISHED = re.compile(r"\.[\w-]{22}\.tmp")
"""DVC's temporary name for a file that it copies from its cache."""


def repair(root: Path) -> list[str]:
    """Repair DVC's files in the repository `root`; return one line per repair.

    - A truncated `.dvc/tmp/rwlock`, DVC's list of running commands, is removed.
    - A truncated dvc.lock is restored from Git's index: `dvc repro` finds later results in its cache, or computes them again.
    - Unfinished copies from DVC's cache are removed from the output folders, unless DVC is running.

    Raises:
        ProjectError: a file is in a merge conflict; nothing is changed.
    """
    check_merged(root)
    repairs = []
    rwlock, lock = dvc_tmp(root) / "rwlock", root / DVC_LOCK
    try:
        json.loads(rwlock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except ValueError:
        remove(rwlock)
        repairs.append(f"{rwlock}: was truncated; removed")
    if lock.exists() and not _is_valid(lock):
        repairs.append(_restore(lock))
    patterns = [f"{folder}/{level}" for folder in (DATA, MODELS, REPORTS) for level in ("*", "*/*")]
    unfinished = [path for pattern in patterns for path in root.glob(pattern) if UNFINISHED.fullmatch(path.name)]
    if unfinished and not _is_dvc_running(root):
        for path in unfinished:
            remove(path)
        repairs += [f"{path}: an unfinished copy by DVC; removed" for path in unfinished]
    return repairs


def _is_valid(lock: Path) -> bool:
    """Whether DVC accepts this dvc.lock. A truncated one may still be valid YAML."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.strictyaml import load

    try:
        load(str(lock), COMPILED_LOCKFILE_SCHEMA)
    except DvcException:
        return False
    return True


def _restore(lock: Path) -> str:
    """Restore a truncated dvc.lock from Git's index, or remove it where Git has none; return what was done."""
    root = lock.parent
    try:
        if git.unmerged(root, [lock.name]):
            raise ProjectError(conflict_line([lock.name]))
        staged = git.staged(root, lock.name)
    except GitError as error:
        remove(lock)
        return f"{lock}: was truncated; removed ({error})"
    if staged is None:
        remove(lock)
        return f"{lock}: was truncated; removed, because Git does not track it"
    with atomic_path(lock) as beside:
        beside.write_bytes(staged)
    return f"{lock}: was truncated; restored from Git"


def _is_dvc_running(root: Path) -> bool:
    """Whether a DVC process holds the repository's lock, as it does while it writes."""
    from dvc.lock import Lock, LockError

    lock = Lock(str(dvc_tmp(root) / "lock"))
    try:
        lock.lock()
    except LockError:
        return True
    lock.unlock()
    return False
