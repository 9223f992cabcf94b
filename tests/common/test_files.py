"""Files are written atomically, and damaged JSON is one line."""

import errno
import gzip
from pathlib import Path

import pytest

from plumage.common.files import atomic_path, read_output, what_failed, write_json
from plumage.errors import PipelineError


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


def test_a_folder_that_cannot_be_replaced_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "old").touch()

    def fail(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError) as caught, atomic_path(folder) as beside:
        beside.mkdir()
    assert what_failed(caught.value) == f"{folder}: Input/output error"
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["dataset", "dataset/old"]


def test_a_failed_write_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with pytest.raises(OSError) as caught, atomic_path(path) as beside:
        beside.symlink_to("/dev/full")
        beside.write_text("half")
    assert what_failed(caught.value) == f"{path}: the disk is full; make room, then run the same command again"
    assert not list(tmp_path.iterdir())


def test_an_error_of_a_library_stays_what_it_was(tmp_path: Path) -> None:
    with pytest.raises(gzip.BadGzipFile, match="not a gzip") as caught, atomic_path(tmp_path / "birds"):
        raise gzip.BadGzipFile("not a gzip file\nat all")
    assert what_failed(caught.value) == "not a gzip file"


def test_nan_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_no_folder_for_temporary_files_is_no_missing_file() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert what_failed(caught.value).endswith("['/tmp']; make room, or set TMPDIR to a folder with room")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": 1',
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": ' + "1" * 10_000 + "}",
    ],
)
def test_a_damaged_output_is_one_line_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(PipelineError, match=r"run\.json is damaged \(.*; run `dvc repro`") as caught:
        read_output(tmp_path / "run.json")
    assert "\n" not in str(caught.value)


def test_an_output_that_is_not_text_or_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(bytes(100) + b"\xff")
    with pytest.raises(PipelineError, match=r"run\.json is damaged"):
        read_output(tmp_path / "run.json")
    with pytest.raises(PipelineError, match=r"none\.json doesn't exist; run `dvc repro`"):
        read_output(tmp_path / "none.json")
