"""What a DVC that was killed while it wrote may leave: its own files half-written, which it refuses to read, and unfinished copies."""

import json
import re
import subprocess
from pathlib import Path

from plumage.common.files import remove

OUTPUTS = ("data", "models", "reports")
UNFINISHED = re.compile(r"\.[\w-]{22}\.tmp")
"""What DVC calls a file that it brings from its cache, until it is whole."""


def repair(root: Path) -> list[str]:
    """Mend DVC's files in the repository `root`, and say what was done: a line each.

    A half-written lock file of running commands is removed, a half-written dvc.lock is taken from Git's index, as after
    `git restore dvc.lock`: `dvc repro` finds what it had done since in its cache, or does it again. Copies from its cache that
    never were finished are removed from among the outputs, unless a DVC is at work.
    """
    said = []
    rwlock, lock = root / ".dvc" / "tmp" / "rwlock", root / "dvc.lock"
    try:
        json.loads(rwlock.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except ValueError:
        remove(rwlock)
        said.append(f"{rwlock}: was half-written, and is removed")
    if lock.exists() and not _is_whole(lock):
        remove(lock)
        subprocess.run(["git", "restore", "dvc.lock"], cwd=root, capture_output=True)  # none there is right too
        said.append(f"{lock}: was half-written, and is as Git has it")
    near = [path for name in OUTPUTS for level in ("*", "*/*") for path in (root / name).glob(level)]
    unfinished = [path for path in near if UNFINISHED.fullmatch(path.name)]
    if unfinished and not _at_work(root):
        for path in unfinished:
            remove(path)
        said += [f"{path}: a copy that DVC did not finish, is removed" for path in unfinished]
    return said


def _is_whole(lock: Path) -> bool:
    """Whether DVC reads this dvc.lock: a part of one may be YAML still."""
    from dvc.exceptions import DvcException
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.strictyaml import load

    try:
        load(str(lock), COMPILED_LOCKFILE_SCHEMA)
    except DvcException:
        return False
    return True


def _at_work(root: Path) -> bool:
    """Whether a DVC holds the lock of the repository, as it does whenever it is at its files."""
    from dvc.lock import Lock, LockError

    lock = Lock(str(root / ".dvc" / "tmp" / "lock"))
    try:
        lock.lock()
    except LockError:
        return True
    lock.unlock()
    return False
