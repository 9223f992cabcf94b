"""Repair the SQLite file of an MLflow store that a kill, a full disk or a lost page left incomplete. No run is lost."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from plumage.common.files import remove
from plumage.tracking.database import (
    SIDE_FILES,
    DamagedError,
    beside,
    connect,
    database_file,
    is_disk_error,
    locked,
    migrate,
    newest_schema,
    one_line_database_errors,
    schema_of,
    side_file,
    upgrade,
    wait_for_others,
)

SCRATCH_TABLE = "_alembic_tmp_"
"""Prefix of the table that a migration fills in place of another one."""
FINEST = 2**12
"""A table with an unreadable page is read in at most this many pieces."""


def repair_database(uri: str) -> list[str]:
    """Repair the SQLite file of the store `uri`; return one line per repair, none for a whole, missing or other store.

    - What killed creations, migrations and repairs left beside it is removed.
    - A damaged or incomplete database is kept under another name, and every row that can be read goes to a new one.

    Raises:
        TrackingError: the disk is full, or the file is another program's or a newer MLflow's.
    """
    path = database_file(uri)
    if path is None or not (path.exists() or _leftovers(path)):
        return []
    with locked(path):
        lines = []
        for leftover in _leftovers(path):
            remove(leftover)
            lines.append(f"{leftover}: an unfinished database; removed")
        wait_for_others(path)
        if not path.exists():
            return lines
        try:
            if schema_of(path) != newest_schema():
                migrate(path)
            elif problem := _problem(path):
                lines.append(_rebuild(path, problem))
        except DamagedError as error:
            lines.append(_rebuild(path, error.reason))
    return lines


def _leftovers(path: Path) -> list[Path]:
    """The temporary files that `beside` made for the database, its backups and its damaged copies, with their side files."""
    return sorted(path.parent.glob(f".{path.name}*.tmp*"))


def _problem(path: Path) -> str | None:
    """What SQLite finds wrong with a database of the newest schema; None if it is whole."""
    with one_line_database_errors(path), closing(connect(path)) as database:
        found = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    return None if found == "ok" else found.splitlines()[-1]


def _rebuild(path: Path, reason: str) -> str:
    """Keep the database under another name, make a new one with all rows that can be read, and return a line about it."""
    kept = next(
        name for number in range(1, 1000) if not (name := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    for suffix in ("", *SIDE_FILES):
        if side_file(path, suffix).exists():
            shutil.copy2(side_file(path, suffix), side_file(kept, suffix))
    with one_line_database_errors(path), beside(path) as new:
        copied, lost = _recover(path, new)
    runs = f"{copied.get('runs', 0):,} runs and {copied.get('model_versions', 0):,} model versions were saved"
    missing = f", {lost:,} rows could not be" if lost else ""
    return f"{path}: was incomplete or damaged ({reason}); {runs}{missing}; the previous file is {kept}"


def _recover(path: Path, new: Path) -> tuple[dict[str, int], int]:
    """Make the database `new` with the readable rows of `path`: their number per table, and that of those refused.

    The rows go into tables of their own schema, which are then migrated. If that schema is unknown, or the rows do not
    go through its migrations, they go into the newest tables.
    """
    with closing(sqlite3.connect(path)) as source:
        source.execute("PRAGMA writable_schema = ON")  # SQLite then also opens a truncated file
        source.text_factory = lambda text: text.decode(errors="replace")
        own = [str(version) for (version,) in _rows(source, "alembic_version", ["version_num"])]
        for schema in (*own, "heads"):
            try:
                remove(new)
                upgrade(new, schema)
                with closing(sqlite3.connect(new)) as target:
                    counts = _copy_rows(source, target)
                    target.commit()
                upgrade(new)
                return counts
            except Exception as error:  # MLflow's migrations raise anything
                if schema == "heads" or is_disk_error(error):
                    raise
    raise AssertionError("unreachable")


def _copy_rows(source: sqlite3.Connection, target: sqlite3.Connection) -> tuple[dict[str, int], int]:
    """Copy each table's rows, in the columns that both databases have. Return their number per table, and the refused."""
    copied, refused = {}, 0
    for table in _tables(target) - {"alembic_version"}:
        origin = table if table in _tables(source) else f"{SCRATCH_TABLE}{table}"
        shared = [column for column in _columns(target, table) if column in _columns(source, origin)]
        marks = ", ".join("?" * len(shared))
        insert = f"INSERT OR IGNORE INTO {_quoted(table)} ({', '.join(map(_quoted, shared))}) VALUES ({marks})"
        copied[table] = 0
        for row in _rows(source, origin, shared) if shared else ():
            inserted = target.execute(insert, row).rowcount
            copied[table] += inserted
            refused += not inserted
    return copied, refused


def _tables(database: sqlite3.Connection) -> set[str]:
    try:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return set()


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    """The table's columns, without computed ones."""
    try:
        return [row[1] for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]
    except sqlite3.DatabaseError:
        return []


def _rows(database: sqlite3.Connection, table: str, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """The table's rows, without those on pages that can't be read."""
    names = ", ".join(map(_quoted, columns))
    query = f"SELECT {names} FROM {_quoted(table)} NOT INDEXED"
    try:
        yield from database.execute(query).fetchall()
        return
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname == "SQLITE_ERROR":  # there is no such table
            return
    try:
        last = database.execute(f"SELECT max(rowid) FROM {_quoted(table)}").fetchone()[0] or 0
    except sqlite3.DatabaseError:
        last = FINEST
    pieces = [(1, last)]
    while pieces:
        low, high = pieces.pop()
        try:
            yield from database.execute(f"{query} WHERE rowid BETWEEN ? AND ?", (low, high)).fetchall()
        except sqlite3.DatabaseError:
            if high - low > last // FINEST:
                middle = (low + high) // 2
                pieces += [(middle + 1, high), (low, middle)]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
