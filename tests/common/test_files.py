"""Files are written atomically."""

from pathlib import Path

import pytest

from plumage.common.files import atomic_path, write_json


def test_a_failure_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "out" / "metrics.json"
    write_json(path, {"accuracy": 0.9})
    before = path.read_bytes()
    with pytest.raises(RuntimeError), atomic_path(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_replaced_completely(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    for name in ("old", "new"):
        with atomic_path(folder) as beside:
            beside.mkdir()
            (beside / name).touch()
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())
