"""Link the photos at `data.path` into the copy of the repository that DVC runs an experiment in.

`dvc exp run --queue` and `--temp` run in `.dvc/tmp/exps/.../`, which holds only what Git and DVC track, and DVC hashes
`data.path` there. So untracked photos are linked into the copy, and dvc.lock gets the same hash as in the repository. For a
relative path out of the repository, a link beside the copies does the same.
"""

import os
from pathlib import Path

from plumage.common.paths import DVC_TMP


def link_photos(data_path: str, root: Path, workdir: Path) -> Path:
    """Return the path of the photos from `workdir` (the repository's `root` or an experiment's copy), linking if needed."""
    target, original = workdir / data_path, root / data_path
    if workdir.resolve() == root.resolve():
        _link_for_copies(data_path, root)
    elif original.is_dir() and target.resolve() != original.resolve():
        _link_missing(original, target)
    return target


def _link_for_copies(data_path: str, root: Path) -> None:
    """Make a path out of the repository, such as `../birds`, valid from future copies: DVC checks it before it runs a stage."""
    parts = Path(os.path.normpath(data_path)).parts
    up = parts.count("..")
    target = Path(os.path.normpath(root / Path(*parts[: up + 1])))
    scratch = root / DVC_TMP
    for copies in (scratch / "exps", scratch / "exps" / "standalone"):  # --queue and --temp
        link = Path(os.path.normpath(copies / Path(*parts[1 : up + 1])))
        if not up or not link.is_relative_to(scratch) or link.exists():
            continue
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)  # a dangling link
        link.symlink_to(target)


def _link_missing(original: Path, target: Path) -> None:
    """Link each file of `original` that `target` lacks into `target`, and each link to a folder, which DVC doesn't follow."""
    for above, folders, files in os.walk(original):
        parent = Path(above)
        below = target / parent.relative_to(original)
        below.mkdir(parents=True, exist_ok=True)
        links = [name for name in folders if (parent / name).is_symlink()]
        loops = {name for name in links if parent.resolve().is_relative_to((parent / name).resolve())}
        for name in [*links, *files]:
            if name not in loops and not os.path.lexists(below / name):
                (below / name).symlink_to(parent / name)
