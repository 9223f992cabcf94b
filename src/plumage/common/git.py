"""Every call of Git: it answers the same under any configuration, environment and language.

Questions go to plumbing commands, whose output no setting of the user interface changes. A person's configuration is read
(who they are, which folders they trust, how files are converted); what would change an answer is overridden by name.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from plumage.common.redaction import redacted
from plumage.common.variables import environment_variables
from plumage.errors import GitError

OPTIONS = (
    "--no-pager",
    *("-c", f"core.hooksPath={os.devnull}"),  # `dvc install` adds some, which would run DVC
    *("-c", "core.fsmonitor="),
    *("-c", "submodule.recurse=false"),
    *("-c", "apply.ignoreWhitespace=no"),
)
DIFF = ("diff-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv")
PATCH = (
    *("--patch", "--binary", "--full-index", "--unified=3", "--src-prefix=a/", "--dst-prefix=b/"),
    *("--submodule=short", "--ignore-submodules=dirty"),
)
"""A patch for plain `git apply`. Changes inside a submodule can't be applied from outside of it."""
LEFT_OVER = frozenset({
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_ATTR_SOURCE", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_DIFF_OPTS", "GIT_DIR",
    "GIT_EXTERNAL_DIFF", "GIT_GLOB_PATHSPECS", "GIT_GRAFT_FILE", "GIT_ICASE_PATHSPECS", "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_LITERAL_PATHSPECS", "GIT_NAMESPACE", "GIT_NOGLOB_PATHSPECS",
    "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
})  # fmt: skip
"""Variables that point Git at another repository than the folder's, as Git itself sets them for its hooks, or change what it prints."""


def without_left_overs(environment: Mapping[str, str]) -> dict[str, str]:
    """These environment variables without LEFT_OVER and without GIT_TRACE..., which writes among error messages."""
    return {
        name: value
        for name, value in environment.items()
        if name not in LEFT_OVER and not name.startswith(("GIT_TRACE", "GIT_DIFF_PATH_"))
    }


def forget_left_overs() -> None:
    """Remove them from this process, so that DVC, MLflow and the commands that it starts don't see them."""
    variables = environment_variables()
    for name in variables.keys() - without_left_overs(variables).keys():
        os.environ.pop(name, None)


def run(folder: Path, *arguments: str) -> bytes:
    """Run Git in `folder` and return its output.

    Raises:
        GitError: Git is not installed, refuses the repository, or fails; the message says why and what mends it.
    """
    quiet = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    environment = without_left_overs(environment_variables()) | quiet
    try:
        done = subprocess.run(["git", *OPTIONS, *arguments], cwd=folder, env=environment, capture_output=True)
    except OSError as error:
        raise GitError(f"Git can't be started ({error.strerror}); install it") from None
    if done.returncode:
        raise GitError(_reason(done.stderr.decode("utf-8", "replace"), folder, arguments[0]))
    return done.stdout


def commit_of(folder: Path, file: str) -> str:
    """The commit that `folder` has checked out, if its repository tracks `file` there.

    Raises:
        GitError: there is no repository, it has no commit, or it does not track `file`.
    """
    if not has_commit(folder, "HEAD"):
        raise GitError(f"the Git repository {top(folder)} has no commit yet; create one with `git commit`")
    if not run(folder, "ls-files", "-z", "--", file):
        raise GitError(
            f"the Git repository {top(folder)} does not track {folder / file}; `git add` the project's files"
        )
    return _text(run(folder, "rev-parse", "HEAD"))


def last_commit(folder: Path, pathspec: Sequence[str]) -> tuple[str, datetime]:
    """The newest commit that changed one of these files, and when it was made (the committer's date, in UTC).

    Raises:
        GitError: there is no repository, or no commit has such a file.
    """
    found = _text(run(folder, "rev-list", "--timestamp", "-1", "HEAD", "--", *pathspec)).split()
    if not found:
        raise GitError(f"no commit has {', '.join(pathspec)}")
    return found[1], datetime.fromtimestamp(int(found[0]), UTC)


def is_dirty(folder: Path, pathspec: Sequence[str]) -> bool:
    """Whether a tracked file differs from the commit in content or mode. `--numstat` would also list copied, equal files."""
    return bool(run(folder, *DIFF, "--patch", "--ignore-submodules=none", "HEAD", "--", *pathspec))


def patch(folder: Path, pathspec: Sequence[str]) -> bytes:
    """Changes of tracked files since the commit, for `git apply`."""
    return run(folder, *DIFF, *PATCH, "HEAD", "--", *pathspec)


def has_commit(folder: Path, commit: str) -> bool:
    """Whether the repository has this commit."""
    try:
        run(folder, "cat-file", "-e", f"{commit}^{{commit}}")
    except GitError:
        return False
    return True


def is_shallow(folder: Path) -> bool:
    """Whether older commits are missing from the repository."""
    return run(folder, "rev-parse", "--is-shallow-repository") == b"true\n"


def unmerged(folder: Path, paths: Sequence[str]) -> list[str]:
    """The files at or below these paths in `folder` that a merge, rebase, cherry-pick or stash left in conflict."""
    entries = run(folder, "ls-files", "--unmerged", "-z", "--", *paths).split(b"\0")
    return sorted({os.fsdecode(entry.partition(b"\t")[2]) for entry in entries if entry})


def staged(folder: Path, name: str) -> bytes | None:
    """The content of a file in Git's index; None if Git does not track it."""
    if not run(folder, "ls-files", "-z", "--", name):
        return None
    return run(folder, "cat-file", "blob", f":./{name}")


def top(folder: Path) -> Path:
    """The top folder of the repository around `folder`."""
    return Path(_text(run(folder, "rev-parse", "--show-toplevel")))


def committed(folder: Path, name: str) -> bytes:
    """The content of a file in the commit that is checked out; empty if it is not in it."""
    try:
        return run(folder, "cat-file", "blob", f"HEAD:./{name}")
    except GitError:
        return b""


def setting(folder: Path, key: str) -> str:
    """A value of Git's configuration as `folder` sees it. GitError if it is not set."""
    return _text(run(folder, "config", "--get", key))


def _reason(stderr: str, folder: Path, command: str) -> str:
    """One line that says why Git failed, and what mends it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if trust := next((line for line in lines if line.startswith("git config --global --add safe.directory")), None):
        return f"Git refuses {folder}, because another user owns it; allow it with `{trust}`"
    if "not a git repository (or any" in stderr:
        return f"{folder} is not in a Git repository"
    if any(line.startswith("fatal: not a git repository") for line in lines):
        missing = lines[-1].rpartition(": ")[2]
        return f"{folder} is a Git worktree or submodule of {missing}, which is missing; mount it too, or `git worktree repair`"
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return redacted(f"git {command} in {folder}: {(fatal or lines or ['it failed'])[0]}")


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace").removesuffix("\n")
