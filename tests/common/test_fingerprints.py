"""Files count as changed when their content is another, not when they were only touched."""

from pathlib import Path

import pytest

from plumage.common import fingerprints
from plumage.common.fingerprints import Fingerprints


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "one.py").write_text("1")
    (tmp_path / "table.csv").write_text("a")
    return tmp_path


def test_changed_added_and_removed_files_are_named(folder: Path) -> None:
    taken = Fingerprints({name: folder / name for name in ("code", "table.csv", "missing")})
    assert taken.changed() == []
    (folder / "code" / "one.py").unlink()
    (folder / "code" / "two.py").write_text("2")
    (folder / "table.csv").write_text("b")
    (folder / "missing").write_text("here")
    assert taken.changed() == ["code/one.py", "code/two.py", "missing", "table.csv"]


def test_a_touched_or_restored_file_and_an_editors_files_are_no_change(folder: Path) -> None:
    taken = Fingerprints({"code": folder / "code"}, suffixes=(".py",))
    file = folder / "code" / "one.py"
    file.write_text("2")
    file.unlink()
    file.write_text("1")
    (folder / "code" / ".one.py.swp").write_text("")
    (folder / "code" / "one.py~").write_text("")
    assert taken.changed() == []


def test_large_files_are_compared_without_reading_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "CONTENT_BYTES", 0)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read"))
    taken = Fingerprints({"table.csv": folder / "table.csv"})
    assert taken.changed() == []
    (folder / "table.csv").write_text("ab")
    assert taken.changed() == ["table.csv"]
