"""A virtual environment that holds only given requirements and what they require, as links to this one's packages."""

import sys
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def closure(requirements: list[str]) -> list[Distribution]:
    """The packages that `pip install` of these requirements would install. AssertionError if this environment lacks one."""
    found: dict[str, Distribution] = {}
    waiting, seen = list(requirements), set(requirements)
    while waiting:
        wanted = Requirement(waiting.pop())
        installed = found.setdefault(wanted.name, distribution(wanted.name))
        assert wanted.specifier.contains(installed.version, prereleases=True), f"{wanted}: {installed.version} is here"
        for line in installed.requires or []:
            marker = Requirement(line).marker
            applies = marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))
            if applies and line not in seen:
                seen.add(line)
                waiting.append(line)
    return list(found.values())


def make_environment(folder: Path, requirements: list[str]) -> Path:
    """Make the environment in `folder`. Returns its `python`; `uvicorn`, which MLflow starts, is beside it."""
    venv.create(folder, symlinks=True)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for installed in closure(requirements):
        for name in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
            if not (site / name).exists():  # several packages share some, as nvidia
                (site / name).symlink_to(Path(str(installed.locate_file(name))).resolve())
    uvicorn = folder / "bin" / "uvicorn"
    uvicorn.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m uvicorn "$@"\n')
    uvicorn.chmod(0o755)
    return folder / "bin" / "python"
