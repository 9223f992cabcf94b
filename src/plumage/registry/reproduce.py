"""Reproduce a registered version: run its pipeline in a temporary worktree and compare the outputs.

The worktree gets the version's commit, uncommitted changes and parameters. It is made in `.dvc/tmp/`, which Git and DVC
ignore and which is on the same disk as the photos. Its stages log to an MLflow store of their own and commit nothing to
DVC's cache.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from plumage.common import git, paths
from plumage.common.dvc_status import error_line
from plumage.common.files import read_output, remove
from plumage.common.project import scratch_folder
from plumage.common.redaction import redacted
from plumage.common.variables import environment_variables
from plumage.common.yaml_file import read_yaml
from plumage.config import Data
from plumage.data.sources.link_photos import link_photos
from plumage.errors import GitError, PipelineError
from plumage.registry.lineage_query import LOCK_FILE, METRICS_FILE, PARAMS_FILE, fetch_provenance, parse_packages
from plumage.registry.versions import find_version
from plumage.tracking import tags
from plumage.tracking.diff_secrets import SECTION, left_out
from plumage.tracking.lineage import DIFF_FILE, MACHINE_FILE, PACKAGES_FILE, locked_hashes
from plumage.tracking.machine import environment
from plumage.tracking.resume import flatten_metrics
from plumage.tracking.store import sqlite_uri

COMPARED = {
    "data": paths.DATASET.as_posix(),
    "splits": paths.SPLITS.as_posix(),
    "weights": paths.WEIGHTS.as_posix(),
    "model": paths.DESCRIPTION.as_posix(),
}
NEEDED = (PARAMS_FILE, LOCK_FILE, METRICS_FILE, PACKAGES_FILE, MACHINE_FILE)
DVC = (sys.executable, "-m", "dvc")
DVC_SETTINGS = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR")
"""Where the person's configuration of DVC is. Other variables of DVC and MLflow are about the repository."""
LAST_STAGE = "evaluate"
"""The stage after it, register, would add a version."""
SECONDS_TO_END = 30
"""How long an interrupted stage may take to end before it is killed."""


@dataclass(frozen=True)
class ComparedOutput:
    """One output: its hash or value in the version (`before`) and in this run (`now`)."""

    what: str
    before: str
    now: str

    @property
    def same(self) -> bool:
        """Whether both are equal."""
        return self.before == self.now


@dataclass(frozen=True)
class Reproduction:
    """The outcome of reproducing a version."""

    title: str
    compared: list[ComparedOutput]
    environment_changes: list[str]
    """One line per package or part of the machine that has changed since the version was made."""


def reproduce(uri: str, root: Path) -> Reproduction:
    """Run the pipeline of the version `models:/NAME/3` or `models:/NAME@ALIAS` again, and compare the outputs.

    Data, splits and the model's files are compared by DVC's hashes, reports/metrics.json by value. The stages print to
    this process's stdout and stderr.

    Raises:
        TrackingError: the registry can't be reached or has no such version.
        ModelError: a file of the version is not the one that was registered.
        PipelineError: the version lacks a file, its commit is not in this repository, or its pipeline fails.
    """
    version = find_version(uri, root)
    title = f"{version.name} version {version.version}"
    with _scratch(root) as scratch:
        files = fetch_provenance(version, scratch / "version")
        commit, dirty = version.tags.get(tags.GIT_COMMIT), version.tags.get(tags.GIT_DIRTY) == "true"
        if commit is None:
            reason = version.tags.get(tags.GIT_UNKNOWN, "it was not made in a Git repository")
            raise PipelineError(f"{title}: its code is unknown ({reason})")
        if missing := [name for name in NEEDED if name not in files]:
            raise PipelineError(f"{title}: {', '.join(missing)} is not among its files, so it can't be reproduced")
        if dirty and DIFF_FILE not in files:
            raise PipelineError(f"{title}: its uncommitted changes were too long to be kept, or in a submodule")
        diff = files[DIFF_FILE].read_bytes() if dirty else b""
        if missing := [name for name in left_out(diff) if Path(name).name != PARAMS_FILE]:
            raise PipelineError(f"{title}: its uncommitted changes of {', '.join(missing)} were not recorded: secrets")
        with _worktree(root, commit, scratch, title) as tree:
            if SECTION.search(diff):  # params.yaml is copied whole below
                _git(tree, title, "apply", "--whitespace=nowarn", f"--exclude=*{PARAMS_FILE}", str(files[DIFF_FILE]))
            (tree / PARAMS_FILE).write_text(_with_secrets(files[PARAMS_FILE], root), encoding="utf-8")
            variables = _variables(tree, scratch)
            _bring_data(root, tree, variables, title)
            if _run([*DVC, "repro", "--force", "--no-commit", LAST_STAGE], tree, variables):
                raise PipelineError(f"{title}: its pipeline failed; see the output above")
            return Reproduction(title, _compare(files, tree), _environment_changes(files))


def _with_secrets(params: Path, root: Path) -> str:
    """The version's parameters. Where `data.url` was recorded without its login or token, it is that of params.yaml here."""
    text, url = params.read_text(encoding="utf-8"), (read_yaml(root / PARAMS_FILE).get("data") or {}).get("url")
    return text.replace(redacted(url), url) if url else text


def _compare(files: Mapping[str, Path], tree: Path) -> list[ComparedOutput]:
    """Compare the version's outputs with those in the worktree."""
    before, now = locked_hashes(files[LOCK_FILE]), locked_hashes(tree / paths.DVC_LOCK)
    compared = [
        ComparedOutput(f"{what} {path}", before.get(path, "none"), now.get(path, "none"))
        for what, path in COMPARED.items()
    ]
    old, new = (flatten_metrics(read_output(path)) for path in (files[METRICS_FILE], tree / paths.METRICS))
    different = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    for name in different:
        compared.append(ComparedOutput(f"metric {name}", str(old.get(name, "none")), str(new.get(name, "none"))))
    return compared if different else [*compared, ComparedOutput(f"metrics, {len(old)} figures", "equal", "equal")]


def _environment_changes(files: Mapping[str, Path]) -> list[str]:
    now = environment()
    packages = parse_packages(files[PACKAGES_FILE].read_text(encoding="utf-8"))
    before = {"packages": packages, "machine": read_output(files[MACHINE_FILE])}
    return [
        f"{name} was {then.get(name, 'absent')}, is {now[part].get(name, 'absent')}"
        for part, then in before.items()
        for name in sorted(then.keys() | now[part].keys())
        if then.get(name) != now[part].get(name)
    ]


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A folder for one reproduction at a time, deleted afterwards. Leftovers of a killed one are deleted first."""
    folder = scratch_folder(root) / "reproduce"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder.with_suffix(".lock"), blocking=False):
            remove(folder)
            (folder / "version").mkdir(parents=True)
            try:
                yield folder
            finally:
                remove(folder)
    except filelock.Timeout:
        raise PipelineError(f"another `plumage reproduce` is running in {root}; let it end") from None


@contextmanager
def _worktree(root: Path, commit: str, scratch: Path, title: str) -> Iterator[Path]:
    """A worktree of the repository at `commit`, below `scratch`, removed afterwards."""
    prefix = os.fsdecode(_git(root, title, "rev-parse", "--show-prefix").removesuffix(b"\n"))
    if not git.has_commit(root, commit):
        fetch = "git fetch --unshallow" if git.is_shallow(root) else "git fetch"
        raise PipelineError(
            f"{title}: its commit {commit[:12]} is not in this repository; `{fetch}` the branch that has it"
        )
    tree = scratch / "tree"
    _forget(root, tree)  # of a killed run
    _git(root, title, "worktree", "add", "--detach", str(tree), commit)
    try:
        yield tree / prefix
    finally:
        _forget(root, tree)
        remove(tree)


def _bring_data(root: Path, tree: Path, variables: Mapping[str, str], title: str) -> None:
    """Bring data that Git does not track: from DVC's cache where DVC tracks it, else by links."""
    tracked = [os.fsdecode(name) for name in _git(tree, title, "ls-files", "-z", "*.dvc").split(b"\0") if name]
    if tracked:
        command = [*DVC, "cache", "dir"]
        found = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if found.returncode:
            raise PipelineError(f"{title}: dvc cache dir: {error_line(found.stderr)}")
        cache = found.stdout.strip()
        for arguments in (["cache", "dir", "--local", cache], ["checkout", *tracked]):
            if _run([*DVC, *arguments], tree, variables):
                raise PipelineError(f"{title}: data that DVC tracks is not in its cache {cache}; run `dvc fetch`")
    params = read_yaml(tree / PARAMS_FILE)
    data, model = params.get("data", {}), params.get("model", {})
    for path in (data.get("path", Data().path), model.get("weights"), paths.DOWNLOADS.as_posix()):
        if path and not Path(path).is_absolute() and f"{path}.dvc" not in tracked:
            _link(root, tree, path)


def _link(root: Path, tree: Path, path: str) -> None:
    """Link `path` in the worktree to the same path in the repository, where Git did not check it out."""
    there, here = root / path, Path(os.path.normpath(tree / path))
    if here.is_dir() and there.is_dir():
        link_photos(path, root, tree)
    elif there.exists() and not here.exists() and here.is_relative_to(tree.parent):
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(there.resolve())


def _variables(tree: Path, scratch: Path) -> dict[str, str]:
    """This process's environment variables, with the worktree's code, and MLflow's and DVC's stores in `scratch`."""
    own = {
        name: value
        for name, value in environment_variables().items()
        if name in DVC_SETTINGS or not name.startswith(("DVC_", "MLFLOW_"))
    }
    return own | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(tree / "src"), own.get("PYTHONPATH")])),
        "MLFLOW_TRACKING_URI": sqlite_uri(scratch / paths.MLFLOW_DB),
        "DVC_SITE_CACHE_DIR": str(scratch / "site"),
        "DVC_NO_ANALYTICS": "true",
    }


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command and return its exit code. On Ctrl-C, wait until it has ended before raising."""
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        try:
            return process.wait()
        except BaseException:
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def _git(folder: Path, title: str, *arguments: str) -> bytes:
    """Run Git and return its output. PipelineError, with the version's title, when it fails."""
    try:
        return git.run(folder, *arguments)
    except GitError as error:
        raise PipelineError(f"{title}: {error}") from None


def _forget(root: Path, tree: Path) -> None:
    """Remove the worktree `tree` from Git's list, if it is there. Others, perhaps on a disk that is away, stay."""
    with suppress(GitError):
        git.run(root, "worktree", "remove", "--force", str(tree))
