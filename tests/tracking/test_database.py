"""A store's SQLite file is complete or absent, whatever stops its creation or migration, and a damaged one loses no run."""

import errno
import os
import resource
import signal
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import alembic.command
import new_stores
import pytest
import sqlalchemy
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config

from plumage.errors import TrackingError
from plumage.tracking import database
from plumage.tracking.database import (
    DamagedError,
    newest_schema,
    one_line_database_errors,
    prepare_database,
    schema_of,
    upgrade,
)
from plumage.tracking.repair import repair_database
from plumage.tracking.store import connect, tracking_uri

RUNS = 400


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alembic.command, "upgrade", new_stores.upgrade)
    monkeypatch.setattr(database, "QUIET_SECONDS", 0)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def schemas() -> list[str]:
    """The schemas that MLflow migrates through, oldest first."""
    script = ScriptDirectory.from_config(_get_alembic_config("sqlite://"))
    return [revision.revision for revision in script.walk_revisions()][::-1]


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory, schemas: list[str]) -> bytes:
    """A database of an earlier MLflow, with RUNS runs."""
    path = tmp_path_factory.mktemp("earlier") / "mlflow.db"
    upgrade(path, schemas[-6])
    add_runs(path)
    return path.read_bytes()


def add_runs(path: Path) -> None:
    with closing(sqlite3.connect(path)) as store, store:
        store.execute(
            "INSERT OR IGNORE INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'owls', 'active')"
        )
        for number in range(RUNS):
            store.execute(
                "INSERT INTO runs (run_uuid, name, experiment_id, lifecycle_stage, status) "
                "VALUES (?, ?, 7, 'active', 'FINISHED')",
                (f"{number:032x}", "a run with a long name " * 20),
            )


def num_runs(path: Path) -> int:
    with closing(sqlite3.connect(path)) as store:
        return int(store.execute("SELECT count(*) FROM runs").fetchone()[0])


def set_schema(path: Path, schema: str) -> None:
    """Say that the database has `schema`: as after a kill between a migration and its note that it is done."""
    with closing(sqlite3.connect(path)) as store, store:
        store.execute("UPDATE alembic_version SET version_num = ?", (schema,))


def uri(path: Path) -> str:
    return f"sqlite:///{path}"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("statement", [1, 60, 400])
def test_killed_in_its_creation_it_leaves_nothing_that_the_next_one_minds(statement: int, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    (tmp_path / "mlflow.db-journal").write_bytes(b"of a database that was deleted")
    if (child := os.fork()) == 0:
        executed = iter(range(1, statement))

        def kill_at_statement(*_: object) -> None:
            if next(executed, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", kill_at_statement)
        prepare_database(uri(path))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not path.exists()
    prepare_database(uri(path))
    assert schema_of(path) == newest_schema()
    assert names(tmp_path) == ["mlflow.db", "mlflow.db.lock"]


def test_a_full_disk_is_named_and_leaves_no_database(tmp_path: Path) -> None:
    with at_most(300_000), pytest.raises(TrackingError, match=r"mlflow\.db: .* check the disk's space") as caught:
        connect(tmp_path, "plumage")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["mlflow.db.lock"]


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow above `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_earlier_schema_is_migrated_and_kept_as_it_was(
    tmp_path: Path, earlier: bytes, schemas: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, kept = tmp_path / "mlflow.db", tmp_path / f"mlflow.db.{schemas[-6]}.backup"
    path.write_bytes(earlier)
    path.chmod(0o660)
    prepare_database(uri(path))
    assert schema_of(path) == newest_schema() and num_runs(path) == RUNS
    assert schema_of(kept) == schemas[-6] and num_runs(kept) == RUNS
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(kept.stat().st_mode) == 0o660
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "migrated" in said and str(kept) in said
    prepare_database(uri(path))
    assert not capsys.readouterr().err


@pytest.mark.parametrize("end", ["a kill", "a full disk"])
def test_a_migration_that_does_not_end_changes_nothing(
    end: str, tmp_path: Path, earlier: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(earlier)
    if end == "a kill":

        def die(new: Path) -> None:
            with closing(sqlite3.connect(new)) as half, half:
                half.execute("DROP TABLE runs")
            os._exit(9)

        monkeypatch.setattr(database, "upgrade", die)
        if (child := os.fork()) == 0:
            prepare_database(uri(path))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        monkeypatch.undo()
    else:
        with at_most(len(earlier) + 4096), pytest.raises(TrackingError, match="check the disk's space"):
            prepare_database(uri(path))
    assert path.read_bytes() == earlier
    prepare_database(uri(path))
    assert num_runs(path) == RUNS and not list(tmp_path.glob(".*"))


def test_a_link_to_a_database_stays_one(tmp_path: Path, earlier: bytes) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "mlflow.db").symlink_to("disk/mlflow.db")
    (tmp_path / "disk" / "mlflow.db").write_bytes(earlier)
    prepare_database(uri(tmp_path / "mlflow.db"))
    assert (tmp_path / "mlflow.db").is_symlink() and num_runs(tmp_path / "disk" / "mlflow.db") == RUNS


def test_a_database_that_another_process_is_just_making_is_waited_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "mlflow.db"
    whole = path.read_bytes()
    path.write_bytes(b"")
    monkeypatch.setattr(database, "QUIET_SECONDS", 60)
    threading.Timer(0.5, lambda: path.write_bytes(whole)).start()
    prepare_database(uri(path))
    assert path.read_bytes() == whole


def test_nobody_writes_to_a_database_while_it_is_migrated(
    tmp_path: Path, earlier: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(earlier)
    with closing(sqlite3.connect(path, timeout=0)) as other:

        def write_meanwhile(new: Path) -> None:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("DELETE FROM runs")
            upgrade(new)

        monkeypatch.setattr(database, "upgrade", write_meanwhile)
        prepare_database(uri(path))
        with pytest.raises(sqlite3.OperationalError):  # its file is no longer the store: it must notice
            other.execute("DELETE FROM runs")
    assert num_runs(path) == RUNS


def test_a_newer_mlflows_database_is_named_and_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "mlflow.db"
    set_schema(path, "ffffffffffff")
    before = path.read_bytes()
    for use in (prepare_database, repair_database):
        with pytest.raises(TrackingError, match=r"schema ffffffffffff, unknown to MLflow \d.*install the newer MLflow"):
            use(uri(path))
    assert path.read_bytes() == before and names(root) == ["mlflow.db", "mlflow.db.lock"]


def test_another_programs_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE birds (name)")
    for use in (prepare_database, repair_database):
        with pytest.raises(TrackingError, match="another program"):
            use(uri(path))


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_named_and_left_alone(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(path := tmp_path / "mlflow.db")
    for use in (prepare_database, repair_database):
        with pytest.raises(TrackingError, match="mlflow.db: is not a file"):
            use(uri(path))


def test_a_link_to_itself_is_no_database(tmp_path: Path) -> None:
    (path := tmp_path / "mlflow.db").symlink_to(path.name)
    assert repair_database(uri(path)) == []


@pytest.mark.parametrize("other", ["postgresql://a@b/c", "http://127.0.0.1:5000", "sqlite://", "sqlite:///:memory:"])
def test_stores_that_are_no_sqlite_file_are_left_to_mlflow(other: str) -> None:
    prepare_database(other)
    assert repair_database(other) == []


def test_a_whole_store_and_a_missing_one_need_no_repair(root: Path) -> None:
    before = (root / "mlflow.db").read_bytes()
    assert repair_database(tracking_uri(root)) == []
    assert (root / "mlflow.db").read_bytes() == before
    (root / "mlflow.db").unlink()
    present = names(root)
    assert repair_database(tracking_uri(root)) == [] and names(root) == present


@pytest.mark.slow
@pytest.mark.parametrize("step", [10, 65])  # "table model_version_tags already exists", and a KeyError
def test_a_creation_that_mlflow_was_killed_in_is_named_and_repaired(
    step: int, tmp_path: Path, schemas: list[str]
) -> None:
    path = tmp_path / "mlflow.db"
    upgrade(path, schemas[step])
    set_schema(path, schemas[step - 1])
    before = path.read_bytes()
    with pytest.raises(
        DamagedError, match=r"mlflow\.db: is incomplete or damaged \(.*\); `plumage repair` saves"
    ) as caught:
        connect(tmp_path, "plumage")
    assert "\n" not in str(caught.value) and path.read_bytes() == before
    [line] = repair_database(uri(path))
    assert "0 runs" in line and (tmp_path / "mlflow.db.damaged-1").read_bytes() == before
    assert connect(tmp_path, "plumage") == "1"
    assert repair_database(uri(path)) == []


def test_a_migration_that_mlflow_was_killed_in_is_repaired_with_all_runs(
    tmp_path: Path, earlier: bytes, schemas: list[str]
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(earlier)
    upgrade(path, schemas[-3])
    with closing(sqlite3.connect(path)) as store, store:  # SQLite migrates a table by filling another and renaming it
        store.execute("ALTER TABLE runs RENAME TO _alembic_tmp_runs")
    set_schema(path, schemas[-6])
    with pytest.raises(DamagedError):
        prepare_database(uri(path))
    [line] = repair_database(uri(path))
    assert f"{RUNS} runs" in line and num_runs(path) == RUNS and schema_of(path) == newest_schema()
    prepare_database(uri(path))


@pytest.mark.parametrize("damage", ["truncated", "a lost page", "zero bytes", "text"])
def test_a_damaged_database_is_named_and_all_that_can_be_read_is_saved(damage: str, root: Path) -> None:
    path = root / "mlflow.db"
    add_runs(path)
    whole = path.read_bytes()
    page = whole.rindex(b"a run with a long name") // 4096 * 4096
    content = {
        "truncated": whole[:page],
        "a lost page": whole[:page] + bytes(4096) + whole[page + 4096 :],
        "zero bytes": b"",
        "text": b"birds" * 1000,
    }[damage]
    path.write_bytes(content)
    (root / "mlflow.db-journal").write_bytes(b"not a journal")
    if damage != "a lost page":  # SQLite notices it once it reads the page
        with pytest.raises(DamagedError, match="plumage repair"):
            connect(root, "plumage")
    [line] = repair_database(uri(path))
    saved = num_runs(path)
    assert f"{saved} runs" in line and line.count("\n") == 0
    assert RUNS - 20 < saved < RUNS if damage in ("truncated", "a lost page") else saved == 0
    assert (root / "mlflow.db.damaged-1").read_bytes() == content
    connect(root, "plumage")
    assert repair_database(uri(path)) == []


def test_what_killed_processes_left_beside_is_removed(root: Path) -> None:
    for name in (".mlflow.db.tmp", ".mlflow.db.tmp-journal", ".mlflow.db.damaged-1.tmp"):
        (root / name).write_bytes(b"half")
    lines = repair_database(tracking_uri(root))
    assert len(lines) == 3 and all("removed" in line for line in lines)
    assert not list(root.glob(".mlflow*"))


def test_a_full_disk_is_called_one_however_it_is_found(tmp_path: Path) -> None:
    def by_the_system() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def by_sqlite() -> None:
        with closing(sqlite3.connect(tmp_path / "small.db")) as database:
            database.execute("PRAGMA max_page_count = 1")
            database.execute("CREATE TABLE runs (id)")

    for found in (by_the_system, by_sqlite):
        with pytest.raises(TrackingError) as caught, one_line_database_errors(tmp_path / "mlflow.db"):
            found()
        full = "the disk is full; make room, then run the same command again"
        assert str(caught.value) == f"{tmp_path / 'mlflow.db'}: {full}"
