"""The registry tests' store, and the photos that their models are tested on."""

import shutil
from pathlib import Path

import pytest
from registering import make_photos
from stores import empty_database, root

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
