"""The installed packages of a run are those that Python finds, whatever their installer left."""

from importlib.metadata import distributions
from pathlib import Path

import pytest

from plumage.tracking.machine import environment


def test_packages_have_the_names_and_versions_that_python_finds() -> None:
    found = {distribution.name: distribution.version for distribution in distributions()}
    assert environment()["packages"] == dict(sorted(found.items(), key=lambda item: item[0].lower()))


def test_an_old_package_counts_and_a_half_removed_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old-1.2.egg-info").write_text("Metadata-Version: 1.0\nName: old\nVersion: 1.2\n\nText\nVersion: 9\n")
    (tmp_path / "gone-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    packages = environment()["packages"]
    assert packages["old"] == "1.2" and "" not in packages and "gone" not in packages
