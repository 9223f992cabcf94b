"""Fixtures: photos, data sets, a browser and a small disk."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):  # each of a thousand processes would compile the code anew
    sys.dont_write_bytecode = False
from support import make_dataset, make_photo
from warm_python import warm_commands

from plumage.data.dataset.store import Dataset
from plumage.data.sources.photo import Photo

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """For several processes: one core for each, since their threads would wait for each other, and one warm Python for all."""
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        warm_commands()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: the quick ones then fill what time is left to each process at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


COLORS = {"BLUE JAY": (60, 90, 200), "CARDINAL": (200, 40, 50), "GREEN JAY": (50, 170, 70), "ORIOLE": (230, 140, 30)}


@pytest.fixture(autouse=True)
def quick_stores(tmp_path_factory: pytest.TempPathFactory) -> None:
    """New stores are copies, once MLflow has been imported."""
    if "mlflow.store.db.utils" in sys.modules:
        from new_stores import copy_new_stores

        copy_new_stores(tmp_path_factory.getbasetemp() / "store.db")


@pytest.fixture
def class_folders(tmp_path: Path) -> Path:
    """Four classes of ten photos each, as class folders."""
    root = tmp_path / "photos"
    for name, color in COLORS.items():
        (root / name).mkdir(parents=True)
        for number in range(10):
            (root / name / f"{number}.jpg").write_bytes(make_photo(color, number))
    return root


@pytest.fixture
def color_dataset(tmp_path: Path) -> Callable[[int], Dataset]:
    """Makes a data set of four classes that differ in colour, given the number of photos per class."""

    def make(photos_per_class: int) -> Dataset:
        photos = [
            Photo(f"{name}/{number:03d}.jpg", name, None, make_photo(color, number))
            for name, color in COLORS.items()
            for number in range(photos_per_class)
        ]
        return make_dataset(tmp_path / "dataset", photos)

    return make


@pytest.fixture
def shared_data() -> Path:
    """Real photos that developers have beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"the real photos for developers are not at {SHARED}")
    return SHARED


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Headless Chromium without background requests; it logs its console and its requests."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs Chromium and its driver (Debian packages chromium and chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-dev-shm-usage", f"user-data-dir={tmp_path / 'profile'}",
    ):  # fmt: skip
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a store may still be open
