"""The registry tests' store, and the photos that their models are tested on."""

import shutil
from pathlib import Path

import pytest
from registering import add, hits, make_photos, repository
from stores import empty_database, root

from plumage.tracking.store import use_store

__all__ = ["empty_database", "root"]


@pytest.fixture(scope="session")
def photos_made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "dataset"
    make_photos(folder)
    return folder


@pytest.fixture
def photos(root: Path, photos_made_once: Path) -> Path:
    """`root` with a data set in `dataset`."""
    shutil.copytree(photos_made_once, root / "dataset")
    return root


@pytest.fixture(scope="session")
def registered_once(photos_made_once: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registered")
    with repository(folder, empty_database, photos_made_once):
        add(folder, 1, hits(40))
    return folder


@pytest.fixture
def registered(root: Path, registered_once: Path) -> Path:
    """`root` with a data set in `dataset`, and version 1, which is right on 40 of 60 photos and the champion."""
    shutil.copytree(registered_once, root, dirs_exist_ok=True)
    use_store(root)
    return root
