"""What DVC can't hash in a folder of photos. It looks before a stage runs, and stops without naming the cause, or hangs."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from plumage.common.text import escaped, some
from plumage.data.sources.listing import MAX_DEPTH, SPECIAL, dead_link, too_deep
from plumage.errors import DataError

NAMED = 5  # the number of problems that a message names


def check_for_dvc(folder: Path) -> list[str]:
    """Return the links to folders in `folder`, which DVC doesn't follow: it misses changes behind them.

    Raises:
        DataError: DVC can't hash what it names: dead links, pipes, files without permission, names that are not UTF-8.
    """
    links: list[str] = []
    found: list[str] = []

    def note(error: OSError) -> None:
        found.append(f"{escaped(str(error.filename))} can't be read ({error.strerror})")

    depth = os.fspath(folder).count(os.sep) + MAX_DEPTH
    for parent, folders, files in os.walk(folder, onerror=note):
        if parent.count(os.sep) >= depth:
            raise DataError(too_deep(parent))
        links += [escaped(os.path.join(parent, name)) for name in folders if Path(parent, name).is_symlink()]  # noqa: PTH118
        found += [f"{escaped(path)} {problem}" for path, problem in _problems(parent, [*folders, *files])]
    if found:
        raise DataError(f"DVC can't read all of {folder}: {some(found, NAMED, '; ')}; remove or repair them")
    return links


def _problems(parent: str, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        path = f"{parent}/{name}"
        if any("\udc80" <= character <= "\udcff" for character in name):
            yield path, "has a name that is not UTF-8"
            continue
        try:
            mode = Path(path).stat().st_mode
        except OSError as error:
            yield (
                path,
                f"is {dead_link(path, error)}" if Path(path).is_symlink() else f"can't be read ({error.strerror})",
            )
            continue
        if special := SPECIAL.get(stat.S_IFMT(mode)):
            yield path, f"is {special}"
        elif stat.S_ISREG(mode) and not os.access(path, os.R_OK):
            yield path, "can't be read (Permission denied)"
