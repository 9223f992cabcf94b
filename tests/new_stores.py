"""New SQLite stores as copies of one that MLflow has made: its migrations take a second for each of hundreds of tests.

Nor does it read its 67 migrations again to find the newest whenever a store is opened, which takes 45 ms.
"""

import os
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import alembic.command
import sqlalchemy
from mlflow.store.db import utils

upgrade = alembic.command.upgrade
newest_schema = cache(utils._get_latest_schema_revision)
INITIAL = set(utils.InitialBase.metadata.tables)


def copy_new_stores(template: Path) -> None:
    """From now on, migrate new SQLite stores of this process by copying `template`, which is made when it is needed."""

    def make() -> None:
        draft = template.with_name(f"{os.getpid()}.db")
        engine = sqlalchemy.create_engine(f"sqlite:///{draft}")
        utils.InitialBase.metadata.create_all(engine)
        config = utils._get_alembic_config("sqlite://")
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            upgrade(config, "heads")
        engine.dispose()
        draft.replace(template)

    def copy_or_upgrade(config: Any, revision: str, *rest: Any, **options: Any) -> None:
        connection = config.attributes.get("connection")
        is_new = connection is not None and connection.dialect.name == "sqlite" and _tables(connection) == INITIAL
        if revision != "heads" or not is_new:
            upgrade(config, revision, *rest, **options)
            return
        if not template.exists():
            make()
        with closing(sqlite3.connect(template)) as made:
            made.backup(connection.connection.driver_connection)

    alembic.command.upgrade = copy_or_upgrade
    utils._get_latest_schema_revision = newest_schema


def _tables(connection: sqlalchemy.Connection) -> set[str]:
    return set(sqlalchemy.inspect(connection).get_table_names())
