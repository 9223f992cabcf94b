"""Relative artifact locations in a SQLite store, so that it can be moved and copied together with its artifacts.

MLflow writes absolute ones. Those below the database's folder become relative to it, and so do those below a folder in
which the store was before. A location elsewhere that a person chose stays. `plumage.tracking.artifacts` reads them.
"""

import shlex
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from mlflow.utils.file_utils import local_file_uri_to_path

from plumage.common.paths import MLFLOW_ARTIFACTS
from plumage.common.text import is_or_are, plural

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
FOLDERS = (MLFLOW_ARTIFACTS.name, "mlruns")
"""The folders of artifacts that Plumage and MLflow make; MLflow in the working directory of the program."""
BUSY_SECONDS = 60
EMPTY_DEFAULT = """
    SELECT artifact_location FROM experiments WHERE experiment_id = 0
    AND NOT EXISTS (SELECT 1 FROM runs WHERE experiment_id = 0)
    AND NOT EXISTS (SELECT 1 FROM logged_models WHERE experiment_id = 0)
"""


class Location(NamedTuple):
    """An absolute local location in a column of the store."""

    table: str
    column: str
    uri: str
    path: Path

    @property
    def is_experiment(self) -> bool:
        """Whether it is an experiment's, below which MLflow puts those of new runs and models."""
        return self.table == "experiments"


def make_portable(database: Path) -> None:
    """Make the locations of a SQLite store relative to its folder, in one transaction. A read-only store stays as it is.

    Prints one line when it changes runs that an earlier version logged, or plain MLflow. The line names files that are
    only in a former folder of the store.

    Raises:
        sqlite3.Error: the database can't be read or written.
    """
    folder = database.parent.resolve()
    with closing(sqlite3.connect(database, BUSY_SECONDS, isolation_level=None)) as store:
        locations = _absolute_locations(store)
        roots = _own_roots(locations, folder, database.name)
        changes = {
            location: path.relative_to(root)
            for location in locations
            if (root := next((root for root in roots if (path := location.path).is_relative_to(root)), None))
        }
        default = _empty_default(store, locations)
        changes |= {location: MLFLOW_ARTIFACTS / "0" for location in default}
        if not changes or not _write(store, changes):
            return
    logged = {location: path for location, path in changes.items() if not location.is_experiment}
    if logged:
        _report(database, folder, logged, [root for root in roots if not _same(root, folder)])


def _absolute_locations(store: sqlite3.Connection) -> list[Location]:
    """Absolute local locations, each once per column."""
    return [
        Location(table, column, uri, Path(path))
        for table, column in COLUMNS
        for (uri,) in store.execute(
            f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE 'file:/%' OR {column} LIKE '/%'"
        )
        if (path := local_file_uri_to_path(uri)).startswith("/")
    ]


def _own_roots(locations: list[Location], folder: Path, database: str) -> list[Path]:
    """The folders in which the store `database` lies or lay, the deepest first.

    One of FOLDERS elsewhere is one that a person chose, unless the folder around it is gone, is this one by another path, or
    has the database too, or some of what was logged came along.
    """
    roots = {folder}
    for location in locations:
        artifacts = location.path
        while artifacts.name not in ("", *FOLDERS):
            artifacts = artifacts.parent
        if location.is_experiment and artifacts.name and artifacts.parent not in roots:
            tops = artifacts.parents  # those of a folder further down in the project, too
            root = next((top for top in tops if (folder / artifacts.relative_to(top)).exists()), artifacts.parent)
            logged = [found.path for found in locations if not found.is_experiment]
            if (
                not root.exists()
                or _same(root, folder)
                or (root / database).exists()
                or any((folder / path.relative_to(root)).exists() for path in logged if path.is_relative_to(artifacts))
            ):
                roots.add(root)
    return sorted(roots, key=lambda root: -len(root.parts))


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one folder, as through a link or a second mount."""
    return one == other or (one.exists() and one.samefile(other))


def _empty_default(store: sqlite3.Connection, locations: list[Location]) -> list[Location]:
    """Location of MLflow's experiment 0 if it is unused and where MLflow put it: in `mlruns` of some working directory."""
    found = store.execute(EMPTY_DEFAULT).fetchone()
    return [
        location
        for location in locations
        if location.is_experiment and found == (location.uri,) and location.path.parts[-2:] == ("mlruns", "0")
    ]


def _write(store: sqlite3.Connection, changes: dict[Location, Path]) -> bool:
    """Replace locations by relative ones, all or none. Returns False if the store is read-only."""
    try:
        store.execute("BEGIN IMMEDIATE")
        for location, path in changes.items():
            table, column, uri, _ = location
            relative = f"file:{quote(path.as_posix())}"
            store.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (relative, uri))
        store.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
            raise
        return False
    return True


def _report(database: Path, folder: Path, logged: dict[Location, Path], former: list[Path]) -> None:
    """Print that locations are relative now, and which files are only in a former folder of the store."""
    line = f"{database}: artifact locations are relative now, so that the project can be moved and copied"
    for root in former:
        below = {path for location, path in logged.items() if location.path.is_relative_to(root)}
        if count := sum(_count_missing(root / path, folder / path) for path in below):
            there, here = (shlex.quote(f"{place / MLFLOW_ARTIFACTS}") for place in (root, folder))
            line += f"; {plural(count, 'file')} {is_or_are(count)} only in {there}, copy them: cp -rn {there}/. {here}"
    print(line, file=sys.stderr, flush=True)


def _count_missing(there: Path, here: Path) -> int:
    """Number of files below `there` that are not below `here`."""
    return sum(
        not (here / path.relative_to(there)).exists()
        for path in (there.rglob("*") if there.is_dir() else ())
        if path.is_file()
    )
