"""What a DVC that was killed while it wrote may leave: files of its own, half-written, which it then refuses to read."""

import json
import subprocess
from pathlib import Path

import yaml

from plumage.files import remove


def repair(root: Path) -> list[str]:
    """Mend DVC's files in the repository `root`, and say what was done: a line each.

    A half-written lock file of running commands is removed, a half-written dvc.lock is taken from Git's index, as after
    `git restore dvc.lock`: `dvc repro` finds what it had done since in its cache, or does it again.
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
    try:
        whole = isinstance(yaml.load(lock.read_text(encoding="utf-8"), yaml.CSafeLoader), dict)
    except FileNotFoundError:
        whole = True
    except (ValueError, yaml.YAMLError):
        whole = False
    if not whole:
        remove(lock)
        subprocess.run(["git", "restore", "dvc.lock"], cwd=root, capture_output=True)  # none there is right too
        said.append(f"{lock}: was half-written, and is as Git has it")
    return said
