"""Where `data.path` lies, also for an experiment that DVC runs in a copy of the repository.

`dvc exp run --queue` and `--temp` run in `.dvc/tmp/exps/.../`, with what Git and DVC track and no more, and DVC hashes the
stage's dependency `data.path` there. So photos that neither of them tracks are linked into the copy: the stage reads them,
and dvc.lock gets the hash that they have in the repository itself. For a relative path out of the repository a link beside
the copies does the same.
"""

import os
from pathlib import Path


def link_photos(data_path: str, root: Path, workdir: Path) -> Path:
    """The photos' folder or archive as seen from `workdir`: the repository's `root`, or an experiment's copy of it."""
    here, there = workdir / data_path, root / data_path
    if workdir.resolve() == root.resolve():
        _link_for_copies(data_path, root)
    elif there.is_dir() and here.resolve() != there.resolve():
        _link_missing(there, here)
    return here


def _link_for_copies(data_path: str, root: Path) -> None:
    """Let a relative path out of the repository, as `../birds`, lead from the copies of experiments to the same place.

    DVC wants to see a dependency before it runs a stage, so the link has to be there before the experiment is.
    """
    parts = Path(os.path.normpath(data_path)).parts
    up = parts.count("..")
    target = Path(os.path.normpath(root / Path(*parts[: up + 1])))
    scratch = root / ".dvc" / "tmp"
    for copies in (scratch / "exps", scratch / "exps" / "standalone"):  # of the queue, and of --temp
        link = Path(os.path.normpath(copies / Path(*parts[1 : up + 1])))
        if not up or not link.is_relative_to(scratch) or link.exists():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)  # one that leads nowhere any more
        link.symlink_to(target)


def _link_missing(there: Path, here: Path) -> None:
    """Links in `here`, one a file, to what `there` holds and `here` lacks."""
    for parent, _, names in os.walk(there, followlinks=True):
        below = here / Path(parent).relative_to(there)
        below.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not (below / name).exists():
                (below / name).symlink_to(Path(parent) / name)
