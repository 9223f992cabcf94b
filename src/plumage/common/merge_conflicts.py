"""Find the project's files that a merge, a rebase, a cherry-pick or `git stash pop` left in conflict."""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from plumage.common import git
from plumage.common.paths import DVC_LOCK, DVC_YAML, PARAMS
from plumage.errors import GitError, ProjectError

SETTINGS = (PARAMS.name, DVC_YAML.name, DVC_LOCK.name)
CODE = ("pipeline", "src")
MARKER = re.compile(r"^(<{7,}|>{7,})(\s|$)", re.MULTILINE)
"""How Git marks both sides of a conflict. No line of a settings file or of Python starts like this."""


def check_merged(root: Path) -> None:
    """Check that no settings file or code of the project at `root` is in conflict. Resolved files may still be unmerged in Git.

    Raises:
        ProjectError: names the files and says what to do; nothing is changed.
    """
    names = list(SETTINGS)
    with suppress(GitError):
        names += [name for name in git.unmerged(root, CODE) if name not in names]
    if conflicts := [name for name in names if has_markers(_text(root / name))]:
        raise ProjectError(conflict_line(conflicts))


def has_markers(text: str) -> bool:
    """Whether a file's text still has both sides of a conflict."""
    return MARKER.search(text) is not None


def conflict_line(names: Sequence[str]) -> str:
    """What to do about files in conflict."""
    files = shlex.join(names)
    return (
        f"{', '.join(names)}: in a merge conflict; keep one side with `git checkout --ours {files}` (or --theirs), "
        f"or edit the files and remove the lines <<<<<<<, ======= and >>>>>>>"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
