"""A registered version made again: its commit, changes and parameters in a temporary worktree, its pipeline run, compared.

The worktree lies in `.dvc/tmp/`, where Git and DVC do not look and photos are on the same disk. What its stages log goes
into an MLflow store of its own; nothing is committed to DVC's cache.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import yaml

from plumage.common.files import remove
from plumage.data.sources.link_photos import link_photos
from plumage.errors import PipelineError
from plumage.registry.lineage_query import LOCK_FILE, METRICS_FILE, PARAMS_FILE, fetch_kept
from plumage.registry.register import find_version
from plumage.tracking.evaluation_files import flatten_metrics
from plumage.tracking.lineage import DIFF_FILE, MACHINE_FILE, PACKAGES_FILE, environment, locked_hashes

COMPARED = {
    "data": "data/dataset",
    "splits": "data/splits.csv",
    "weights": "models/model.safetensors",
    "model": "models/model.json",
}
NEEDED = (PARAMS_FILE, LOCK_FILE, METRICS_FILE, PACKAGES_FILE, MACHINE_FILE)
LAST_STAGE = "evaluate"
"""The one after it, register, would add a version."""
SECONDS_TO_END = 30


@dataclass(frozen=True)
class Compared:
    """One thing that came out: `before` is the version's, `now` what this run gave."""

    what: str
    before: str
    now: str

    @property
    def same(self) -> bool:
        """Whether it came out the same."""
        return self.before == self.now


@dataclass(frozen=True)
class Reproduced:
    """How a version came out."""

    title: str
    compared: list[Compared]
    unlike: list[str]
    """What of the packages and the machine is not as it was: a line each, for people."""


def reproduce(uri: str, root: Path) -> Reproduced:
    """Run the pipeline of the version `models:/name/3` or `models:/name@alias` again, and compare what comes out.

    Data, splits and the model's files are compared by DVC's hashes, the figures of reports/metrics.json by value. The
    stages' output goes where this process's does.

    Raises:
        TrackingError: the registry can't be reached or has no such version.
        PipelineError: the version lacks what this takes, its commit is not in this repository, or its pipeline fails.
    """
    version = find_version(uri, root)
    title = f"{version.name} version {version.version}"
    with _scratch(root) as scratch:
        kept = fetch_kept(version, scratch / "version")
        commit, dirty = version.tags.get("git.commit"), version.tags.get("git.dirty") == "true"
        if commit is None:
            raise PipelineError(f"{title}: it was not made in a Git repository, so that its code is not known")
        if lacks := [name for name in NEEDED if name not in kept]:
            raise PipelineError(f"{title}: {', '.join(lacks)} is not among its files, so that it can't be made again")
        if dirty and DIFF_FILE not in kept:
            raise PipelineError(f"{title}: its uncommitted changes were too long to be kept")
        with _worktree(root, commit, scratch, title) as tree:
            if dirty:
                # Its params.yaml is put there whole, whatever Git knows of it.
                _git(tree, title, "apply", f"--exclude=*{PARAMS_FILE}", str(kept[DIFF_FILE]))
            (tree / PARAMS_FILE).write_bytes(kept[PARAMS_FILE].read_bytes())
            variables = _variables(tree, scratch)
            _bring_data(root, tree, variables, title)
            if _run([sys.executable, "-m", "dvc", "repro", "--force", "--no-commit", LAST_STAGE], tree, variables):
                raise PipelineError(f"{title}: its pipeline failed, as said above")
            return Reproduced(title, _compare(kept, tree), _unlike(kept))


def _compare(kept: Mapping[str, Path], tree: Path) -> list[Compared]:
    """What the version had against what lies in the worktree now."""
    before, now = locked_hashes(kept[LOCK_FILE]), locked_hashes(tree / "dvc.lock")
    compared = [
        Compared(f"{what} {path}", before.get(path, "none"), now.get(path, "none")) for what, path in COMPARED.items()
    ]
    old, new = (_figures(path) for path in (kept[METRICS_FILE], tree / "reports" / METRICS_FILE))
    different = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    if not different:
        return [*compared, Compared(f"metrics, {len(old)} figures", "equal", "equal")]
    return compared + [
        Compared(f"metric {name}", str(old.get(name, "none")), str(new.get(name, "none"))) for name in different
    ]


def _unlike(kept: Mapping[str, Path]) -> list[str]:
    now = environment()
    packages = dict(line.split("==", 1) for line in kept[PACKAGES_FILE].read_text(encoding="utf-8").splitlines())
    before = {"packages": packages, "machine": json.loads(kept[MACHINE_FILE].read_text(encoding="utf-8"))}
    return [
        f"{name} was {then.get(name, 'absent')}, is {now[part].get(name, 'absent')}"
        for part, then in before.items()
        for name in sorted(then.keys() | now[part].keys())
        if then.get(name) != now[part].get(name)
    ]


def _figures(path: Path) -> dict[str, float]:
    return flatten_metrics(json.loads(path.read_text(encoding="utf-8")))


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A folder for one reproduction at a time, gone afterwards; what a killed one has left goes first."""
    folder = root / ".dvc" / "tmp" / "reproduce"
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
    """The repository at `commit`, in a worktree below `scratch` that Git has forgotten afterwards."""
    prefix = _git(root, title, "rev-parse", "--show-prefix")
    if _status(root, "cat-file", "-e", f"{commit}^{{commit}}"):
        raise PipelineError(
            f"{title}: its commit {commit[:12]} is not in this repository; `git fetch` the branch that has it"
        )
    tree = scratch / "tree"
    _status(root, "worktree", "prune")  # of one that was killed
    _git(root, title, "worktree", "add", "--detach", str(tree), commit)
    try:
        yield tree / prefix
    finally:
        remove(tree)
        _status(root, "worktree", "prune")


def _bring_data(root: Path, tree: Path, variables: Mapping[str, str], title: str) -> None:
    """Let the worktree reach what Git does not bring: what DVC tracks from its cache, the rest by links."""
    tracked = _git(tree, title, "ls-files", "*.dvc").splitlines()
    if tracked:
        cache = subprocess.run(
            [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        for command in (["cache", "dir", "--local", cache], ["checkout", *tracked]):
            if _run([sys.executable, "-m", "dvc", *command], tree, variables):
                raise PipelineError(f"{title}: what DVC tracks is not in its cache {cache}; `dvc fetch` it")
    params = yaml.safe_load((tree / PARAMS_FILE).read_text(encoding="utf-8"))
    for path in (params["data"].get("path", "data/photos"), params["model"].get("weights"), "data/downloads"):
        if path and not Path(path).is_absolute() and f"{path}.dvc" not in tracked:
            _link(root, tree, path)


def _link(root: Path, tree: Path, path: str) -> None:
    """Let `path` lead from the worktree to what the repository has there, where Git has not brought it."""
    there, here = root / path, Path(os.path.normpath(tree / path))
    if here.is_dir() and there.is_dir():
        link_photos(path, root, tree)
    elif there.exists() and not here.exists() and here.is_relative_to(tree.parent):
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(there.resolve())


def _variables(tree: Path, scratch: Path) -> dict[str, str]:
    """This process's, but with the worktree's code, and the stores of MLflow and DVC's state in `scratch`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    return environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(tree / "src"), environment.get("PYTHONPATH")])),
        "MLFLOW_TRACKING_URI": f"sqlite:///{scratch / 'mlflow.db'}",
        "DVC_SITE_CACHE_DIR": str(scratch / "site"),
        "DVC_NO_ANALYTICS": "true",
    }


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Run a command that says what it does; its exit code. Ctrl-C reaches it too, and it ends before this raises."""
    with subprocess.Popen(command, cwd=folder, env=environment) as process:
        try:
            return process.wait()
        except BaseException:
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
            raise


def _git(folder: Path, title: str, *arguments: str) -> str:
    """What git says; its own hooks, which `dvc install` may have put there, do not run."""
    try:
        done = subprocess.run(_git_command(arguments), cwd=folder, capture_output=True, text=True)
    except OSError:
        raise PipelineError(f"{title}: its code comes from Git, and there is no `git` here; install it") from None
    if done.returncode:
        reason = (done.stderr.strip() or "it failed").splitlines()[-1]
        raise PipelineError(f"{title}: git {arguments[0]} in {folder}: {reason}")
    return done.stdout.strip()


def _status(folder: Path, *arguments: str) -> int:
    return subprocess.run(_git_command(arguments), cwd=folder, capture_output=True).returncode


def _git_command(arguments: tuple[str, ...]) -> list[str]:
    return ["git", "-c", f"core.hooksPath={os.devnull}", *arguments]
