"""What a run was made from: the commit of the code and what differs from it, DVC's hashes, the packages, the machine."""

import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from typing import Any

import psutil
import torch
import yaml

import plumage
from plumage.common.cores import cores
from plumage.common.files import write_json

PACKAGES_FILE, MACHINE_FILE, DIFF_FILE = "packages.txt", "machine.json", "uncommitted.diff"
LONGEST_DIFF = 1_000_000
"""Bytes of uncommitted changes that are kept; more than that is data, not code."""


def lineage_tags(folder: Path, stage: str) -> dict[str, str]:
    """The tags of a run of `stage` in the working tree `folder`.

    `plumage.version`; `git.commit` and `git.dirty` where there is git; `dvc.<path>` for every output of the stages
    before this one.
    """
    return {"plumage.version": plumage.__version__} | _git(folder) | _dvc(folder, stage)


def uncommitted(folder: Path) -> bytes | None:
    """The changes of tracked files against the commit, for `git apply`; what the pipeline itself writes does not count.

    None where there are none, there is no git, or they are longer than LONGEST_DIFF.
    """
    try:
        diff = subprocess.run(
            ["git", "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--", *_written_by_hand(folder)],
            cwd=folder,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return diff if 0 < len(diff) <= LONGEST_DIFF else None


def environment() -> dict[str, dict[str, str]]:
    """What this process runs in: `packages`, the version of every installed one by its name, and `machine`."""
    found = {distribution.name: distribution.version for distribution in distributions()}
    return {"packages": dict(sorted(found.items(), key=lambda item: item[0].lower())), "machine": _machine()}


def write_lineage(folder: Path, repository: Path, made_in: Mapping[str, Any]) -> list[Path]:
    """Write what tags are too short for into `folder`: packages and machine (of `environment`), uncommitted changes."""
    packages, machine, diff = folder / PACKAGES_FILE, folder / MACHINE_FILE, folder / DIFF_FILE
    packages.write_text("".join(f"{name}=={version}\n" for name, version in made_in["packages"].items()), "utf-8")
    write_json(machine, made_in["machine"])
    changes = uncommitted(repository)
    if changes:
        diff.write_bytes(changes)
    return [packages, machine, *([diff] if changes else [])]


def _machine() -> dict[str, str]:
    """Processor, cores, memory, GPU, operating system, Python and torch."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "processor": processor(),
        "cores": str(cores()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "gpu": ", ".join(gpus) or "none",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def processor() -> str:
    """The processor's name, which Linux tells elsewhere than Python's `platform` looks."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _git(folder: Path) -> dict[str, str]:
    """Commit, and whether a tracked file differs from it. What the pipeline itself writes does not count."""
    try:
        commit = _run(folder, "git", "rev-parse", "HEAD")
        by_hand = _written_by_hand(folder)
        changes = _run(folder, "git", "status", "--porcelain", "--untracked-files=no", "--", *by_hand)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"git.commit": commit, "git.dirty": "true" if changes else "false"}


def _written_by_hand(folder: Path) -> list[str]:
    """Git's pathspec of all but what the pipeline writes, and the .gitignore beside it, to which DVC adds lines."""
    written = [path for spec in _stages(folder / "dvc.yaml").values() for path in _outputs(spec)]
    ignoring = {str(PurePosixPath(path).parent / ".gitignore") for path in written}
    return [".", *(f":(exclude,literal){path}" for path in ["dvc.lock", *written, *sorted(ignoring)])]


def _dvc(folder: Path, stage: str) -> dict[str, str]:
    """Hashes of the outputs of all stages before `stage`: its own and later ones in dvc.lock are of an older run."""
    stages, locked = _stages(folder / "dvc.yaml"), _stages(folder / "dvc.lock")
    maker = {path: name for name, spec in stages.items() for path in _outputs(spec)}
    before: list[str] = []
    waiting = [stage]
    while waiting:
        for dependency in stages.get(waiting.pop(), {}).get("deps", []):
            path = PurePosixPath(dependency)
            name = next((maker[str(part)] for part in [path, *path.parents] if str(part) in maker), None)
            if name is not None and name not in before:
                before.append(name)
                waiting.append(name)
    return {f"dvc.{path}": digest for path, digest in _hashes([locked.get(name, {}) for name in before]).items()}


def locked_hashes(lock: Path) -> dict[str, str]:
    """DVC's hash of each output that a dvc.lock names, by its path."""
    return _hashes(_stages(lock).values())


def _hashes(stages: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The hash of each output of stages of a dvc.lock."""
    outputs = [output for spec in stages for output in spec.get("outs", [])]
    return {output["path"]: output["md5"] for output in outputs if "md5" in output}


def _stages(path: Path) -> dict[str, Any]:
    """The stages of a dvc.yaml or dvc.lock; none where there is no such file."""
    if not path.is_file():
        return {}
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages") or {}


def _outputs(spec: dict[str, Any]) -> list[str]:
    """The output paths of a stage in dvc.yaml, where one is a string or {path: options}."""
    entries = [entry for key in ("outs", "metrics", "plots") for entry in spec.get(key, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def _run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
