"""What a killed command left is killed, and nothing else."""

import subprocess
from pathlib import Path

import psutil
import pytest
from killing import kill_all_of

SLEEP = ["sleep", "100"]


def test_what_works_in_a_folder_or_names_it_is_killed_and_nothing_else(tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    there = subprocess.Popen(SLEEP, cwd=folder)
    naming = subprocess.Popen(["sh", "-c", "sleep 100; :", str(folder / "file")], cwd=other)
    elsewhere = subprocess.Popen(SLEEP, cwd=other)
    try:
        kill_all_of(folder)
        assert [process.poll() for process in (there, naming, elsewhere)] == [-9, -9, None]
    finally:
        kill_all_of(tmp_path)


def test_a_process_that_ends_just_before_it_would_be_killed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, there = (subprocess.Popen(SLEEP, cwd=tmp_path) for _ in range(2))
    listed = list(psutil.process_iter(["cmdline", "cwd"]))
    ending.kill()
    ending.wait()
    monkeypatch.setattr(psutil, "process_iter", lambda _: listed)
    kill_all_of(tmp_path)
    assert there.poll() == -9
