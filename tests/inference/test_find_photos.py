"""The photos that are named on a command line, or listed on stdin."""

import os
from io import FileIO
from pathlib import Path

import pytest
from support import make_photo

from plumage.errors import DataError
from plumage.inference.find_photos import count_photos, find_photos


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos, and of what else lies in folders; the working directory is above it."""
    birds = tmp_path / "birds"
    for name in ("b/2.jpg", "b/1.JPG", "a/no suffix", ".hidden/3.jpg", "@eaDir/4.jpg", "-x.jpg", "Thumbs.db"):
        (birds / name).parent.mkdir(parents=True, exist_ok=True)
        (birds / name).write_bytes(make_photo((60, 90, 200), 0))
    (birds / "notes.txt").write_text("no photo")
    (birds / "b" / "loop").symlink_to(birds)
    (birds / "dead.jpg").symlink_to("nowhere")
    os.mkfifo(birds / "pipe.jpg")
    monkeypatch.chdir(tmp_path)
    return birds


def stdin(content: bytes) -> FileIO:
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return FileIO(reading)


def test_a_folder_gives_its_photos_in_order_and_names_what_cannot_be_read(birds: Path) -> None:
    found = {photo.path: photo.problem for photo in find_photos(["birds"])}
    assert list(found) == [
        f"birds/{name}" for name in ("-x.jpg", "a/no suffix", "b/1.JPG", "b/2.jpg", "dead.jpg", "pipe.jpg")
    ]
    assert {path: problem for path, problem in found.items() if problem} == {
        "birds/dead.jpg": "a link to nowhere, which doesn't exist",
        "birds/pipe.jpg": "a named pipe",
    }
    assert count_photos(["birds", "birds/b/2.jpg"]) == len(found) + 1


def test_what_holds_no_photo_is_one_problem(birds: Path) -> None:
    (birds / "empty").mkdir()
    (birds / "texts").mkdir()
    (birds / "texts" / "1.txt").touch()
    found = find_photos(["birds/empty", "birds/texts", "absent.jpg", "a\0b"])
    assert [photo.problem for photo in found] == [
        "the folder holds no photos", "the folder holds no photos (1 .txt)", "No such file or directory", "embedded null byte",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (b"a.jpg\n\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg", ["a.jpg"]),
        (b"a\nb.jpg\0-c.jpg\0", ["a\nb.jpg", "-c.jpg"]),
        (b"caf\xe9.jpg\n", [os.fsdecode(b"caf\xe9.jpg")]),
        (b"", []),
    ],
)
def test_stdin_lists_paths(content: bytes, paths: list[str]) -> None:
    assert [photo.path for photo in find_photos(["-"], stdin(content))] == paths
    assert count_photos(["-"]) is None


def test_a_photo_on_stdin_and_a_closed_stdin_are_one_line() -> None:
    with pytest.raises(DataError, match="stdin holds a JPEG; takes paths of photos"):
        list(find_photos(["-"], stdin(make_photo((60, 90, 200), 0))))
    with pytest.raises(DataError, match="stdin is closed"):
        list(find_photos(["-"], None))
