"""What Git says about a project is the same under anyone's configuration and environment, and a refusal says what mends it."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from plumage.common import git
from plumage.errors import GitError
from plumage.tracking.lineage import lineage_tags, uncommitted

CONFIGURATION = """
[user]
    useConfigOnly = true
[commit]
    gpgSign = true
[diff]
    noPrefix = true
    mnemonicPrefix = true
    external = false
    algorithm = patience
    context = 0
    interHunkContext = 9
    renames = copies
    relative = true
    submodule = log
    ignoreSubmodules = all
    suppressBlankEmpty = true
    wsErrorHighlight = all
    colorMoved = zebra
    orderFile = /nowhere/order
[diff "shouting"]
    textconv = tr a-z A-Z <
    command = false
    binary = true
[color]
    ui = always
    diff = always
    status = always
[core]
    attributesFile = {attributes}
    pager = false
    quotePath = true
    fsmonitor = {hook}
    hooksPath = {hooks}
    whitespace = trailing-space,tab-in-indent
    abbrev = 4
    untrackedCache = true
[status]
    short = true
    branch = true
    showStash = true
    relativePaths = false
    showUntrackedFiles = no
    submoduleSummary = true
    renames = false
[apply]
    whitespace = fix
    ignoreWhitespace = change
[i18n]
    commitEncoding = iso-8859-1
    logOutputEncoding = iso-8859-1
[submodule]
    recurse = true
[grep]
    lineNumber = true
[alias]
    status = !false
[log]
    showSignature = true
"""
LEFT_OVER = {
    "GIT_DIR": "/nowhere/.git",
    "GIT_WORK_TREE": "/nowhere",
    "GIT_INDEX_FILE": "/nowhere/index",
    "GIT_OBJECT_DIRECTORY": "/nowhere/objects",
    "GIT_PREFIX": "reports/",
    "GIT_EXTERNAL_DIFF": "false",
    "GIT_DIFF_OPTS": "--unified=0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_TRACE": "1",
    "GIT_TRACE_SETUP": "1",
    "GIT_PAGER": "false",
    "GIT_OPTIONAL_LOCKS": "1",
    "GIT_TERMINAL_PROMPT": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "diff.noprefix",
    "GIT_CONFIG_VALUE_0": "true",
    "LANG": "de_DE.UTF-8",
    "LANGUAGE": "de",
    "LC_ALL": "de_DE.UTF-8",
}
LINES = "".join(f"line {number}\n" for number in range(40))


def as_a_stranger(folder: Path, *arguments: str) -> bytes:
    """Run plain Git with no configuration, as on another machine."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "LANG", "LC_"))}
    clean |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=a", "-c", "user.email=a@b.invalid")
    return subprocess.run(["git", *who, *arguments], cwd=folder, env=clean, check=True, capture_output=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project in a folder of a Git repository, with files of every kind, committed."""
    project = tmp_path / "monorepo" / "birds"
    (project / "src").mkdir(parents=True)
    (project / "dvc.yaml").write_text("stages: {train: {cmd: x, outs: [model]}}")
    for name in (
        "code.py",
        "deleted.py",
        "moved.py",
        "mode.sh",
        "src/grünfink 鳥.py",
        'src/"tab\t".py',
        "untouched.py",
    ):
        (project / name).write_text(LINES)
    (project / "dos.py").write_bytes(LINES.replace("\n", "\r\n").encode())
    (project / "photo.png").write_bytes(bytes(range(256)))
    (project / "link").symlink_to("code.py")
    as_a_stranger(project.parent, "init", "-q")
    as_a_stranger(project, "add", ".")
    as_a_stranger(project, "commit", "-qm", "birds")
    return project


@pytest.fixture
def odd_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All configuration and variables at once that change what Git prints. Returns a file that a hook would make."""
    ran, hooks = tmp_path / "a hook ran", tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "post-index-change", "fsmonitor"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{ran}'\n")
        (hooks / name).chmod(0o755)
    (tmp_path / "attributes").write_text("*.py diff=shouting\n*.png diff=shouting\n*.sh -diff\n")
    texts = CONFIGURATION.format(attributes=tmp_path / "attributes", hooks=hooks, hook=hooks / "fsmonitor")
    (tmp_path / "gitconfig").write_text(texts)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    for name, value in LEFT_OVER.items():
        monkeypatch.setenv(name, value)
    return ran


def change_everything(project: Path) -> None:
    for name in ("code.py", "src/grünfink 鳥.py", 'src/"tab\t".py'):
        (project / name).write_text(LINES.replace("line 3\n", "changed \t\n").removesuffix("\n"))
    (project / "dos.py").write_bytes(LINES.replace("\n", "\r\n").encode().replace(b"line 9", b"\xff\xfe "))
    (project / "photo.png").write_bytes(bytes(reversed(range(256))))
    (project / "mode.sh").chmod(0o755)
    (project / "deleted.py").unlink()
    (project / "link").unlink()
    (project / "link").symlink_to("dos.py")
    (project / "moved.py").rename(project / "src/moved.py")
    (project / "new, staged.py").write_text(LINES)
    (project / "new, to add.py").write_text(LINES)
    as_a_stranger(project, "add", "moved.py", "src/moved.py", "new, staged.py", "link")
    as_a_stranger(project, "add", "--intent-to-add", "new, to add.py")
    (project / "untracked.py").write_text(LINES)
    (project / "dvc.lock").write_text("stages: {}")
    (project / "untouched.py").touch()


def tree(folder: Path) -> dict[str, object]:
    """Content and executability of every file that a Git repository tracks below `folder`."""
    names = as_a_stranger(folder, "ls-files", "-z", "--cached", "--others").decode().split("\0")
    paths = {name: folder / name for name in names if name and os.path.lexists(folder / name)}
    return {
        name: path.readlink() if path.is_symlink() else (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
        for name, path in paths.items()
        if name not in ("untracked.py", "dvc.lock")
    }


def test_the_patch_applies_to_a_clone_whatever_is_configured(
    repository: Path, odd_environment: Path, tmp_path: Path
) -> None:
    assert lineage_tags(repository, "train")["git.dirty"] == "false" and uncommitted(repository) is None
    change_everything(repository)
    tags = lineage_tags(repository, "train")
    assert tags.get("git.dirty") == "true", tags
    assert tags["git.commit"] == as_a_stranger(repository, "rev-parse", "HEAD").decode().strip()
    (tmp_path / "patch").write_bytes(uncommitted(repository) or b"")
    as_a_stranger(tmp_path, "clone", "-q", str(repository.parent), "clone")
    clone = tmp_path / "clone" / "birds"
    as_a_stranger(clone, "apply", str(tmp_path / "patch"))
    assert tree(clone) == tree(repository)
    as_a_stranger(clone, "checkout", "-q", ".")
    as_a_stranger(clone, "clean", "-qfd")
    git.run(clone, "apply", "--whitespace=nowarn", str(tmp_path / "patch"))
    assert tree(clone) == tree(repository)
    assert not odd_environment.exists(), "a hook ran"


def test_asking_changes_nothing_in_the_repository(repository: Path, odd_environment: Path) -> None:
    index = repository.parent / ".git" / "index"
    before = index.read_bytes()
    for name in ("untouched.py", "photo.png", "mode.sh", "link"):  # as in a copy of the repository
        os.utime(repository / name, (1, 1), follow_symlinks=False)
    assert lineage_tags(repository, "train")["git.dirty"] == "false"
    (repository.parent / ".git" / "index.lock").touch()  # as during `git commit`, when its hooks run
    lineage_tags(repository, "train")
    assert uncommitted(repository) is None
    assert index.read_bytes() == before


def test_a_resolved_conflict_that_is_not_added_yet_is_in_the_patch(repository: Path) -> None:
    as_a_stranger(repository, "checkout", "-qb", "other")
    for branch, text in (("other", "theirs"), ("master", "ours")):
        as_a_stranger(repository, "checkout", "-q", "-B", branch, "master")
        (repository / "code.py").write_text(text)
        as_a_stranger(repository, "commit", "-qam", branch)
    with pytest.raises(subprocess.CalledProcessError):
        as_a_stranger(repository, "merge", "-q", "other")
    assert git.unmerged(repository, ["code.py", "src"]) == ["code.py"]
    (repository / "code.py").write_text("both")
    patch = uncommitted(repository)
    assert patch is not None and b"-ours" in patch and b"+both" in patch
    assert lineage_tags(repository, "train")["git.dirty"] == "true"


def reason(folder: Path) -> str:
    text = lineage_tags(folder, "train")["git.unknown"]
    assert "\n" not in text and uncommitted(folder) is None
    return text


def test_a_refusal_names_the_command_that_mends_it(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    said = reason(repository)
    assert said.startswith(f"Git refuses {repository}, because another user owns it")
    assert f"git config --global --add safe.directory {repository.parent}" in said


def test_no_git_no_repository_and_no_commit_are_told_apart(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reason(tmp_path) == f"{tmp_path} is not in a Git repository"
    as_a_stranger(tmp_path, "init", "-q", "unborn")
    assert "has no commit yet" in reason(tmp_path / "unborn")
    shutil.copy(repository / "dvc.yaml", tmp_path / "monorepo")
    assert "does not track" in reason(tmp_path / "monorepo"), "an unrelated repository around the project"
    (repository.parent / ".git" / "config").write_text("[core\n")
    assert "bad config line 1" in reason(repository)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason(repository) == "Git can't be started (No such file or directory); install it"


def test_worktree_submodule_and_detached_head_have_a_commit(repository: Path, tmp_path: Path) -> None:
    commit = as_a_stranger(repository, "rev-parse", "HEAD").decode().strip()
    as_a_stranger(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    as_a_stranger(tmp_path, "init", "-q", "above")
    submodule = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
    as_a_stranger(tmp_path / "above", *submodule, str(repository.parent), "below")
    as_a_stranger(tmp_path, "clone", "-q", "--depth=1", f"file://{repository.parent}", "shallow")
    assert git.is_shallow(tmp_path / "shallow") and not git.is_shallow(repository)
    for folder in ("tree", "above/below", "shallow"):
        tags = lineage_tags(tmp_path / folder / "birds", "train")
        assert (tags["git.commit"], tags["git.dirty"]) == (commit, "false")
    shutil.rmtree(repository.parent / ".git" / "worktrees")
    assert "which is missing; mount it too" in reason(tmp_path / "tree" / "birds")


def test_what_git_left_over_is_forgotten_and_the_rest_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"GIT_SSH_COMMAND": "ssh -4", "GIT_CONFIG_GLOBAL": "x", "GIT_CEILING_DIRECTORIES": "/", "HOME": "/home/me"}
    assert git.without_left_overs(kept | {"GIT_DIR": "x", "GIT_TRACE2": "1", "GIT_INDEX_FILE": "x"}) == kept
    monkeypatch.setenv("GIT_DIR", "x")
    git.forget_left_overs()
    assert "GIT_DIR" not in os.environ


def test_a_setting_that_is_missing_is_an_error(repository: Path) -> None:
    as_a_stranger(repository, "config", "user.name", "Jürgen")
    assert git.setting(repository, "user.name") == "Jürgen"
    with pytest.raises(GitError):
        git.setting(repository, "plumage.absent")
