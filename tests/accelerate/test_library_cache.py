"""Compiled code is loaded from the cache only as this user compiled it; else it is compiled again, or kept elsewhere."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import needs_kernels

from plumage.accelerate import kernels
from plumage.accelerate.kernels.library_cache import load_library

pytestmark = needs_kernels
SOURCE = "int answer(void) { return 42; }"


class Compiler:
    """Compiles SOURCE, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, library: Path) -> None:
        self.calls += 1
        command = [*(kernels.c_compiler() or []), "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
        subprocess.run(command, input=SOURCE, text=True, check=True)

    def load(self, key: bytes = b"key") -> ctypes.CDLL:
        """The library, which works."""
        loaded = load_library(key, self)
        assert loaded is not None and loaded.answer() == 42
        return loaded


@pytest.fixture
def compiler() -> Compiler:
    return Compiler()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache. The folder of temporary files is another."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path / "cache/plumage"


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where libraries are kept if not in the cache."""
    return tmp_path / f"temporary/plumage-{os.getuid()}"


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def test_a_library_is_compiled_once_for_each_key_in_a_folder_of_the_user_alone(cache: Path, compiler: Compiler) -> None:
    for key in (b"one", b"other", b"one"):
        compiler.load(key)
    assert compiler.calls == 2 and len(files(cache)) == 2
    assert cache.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o700 for file in files(cache))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "short": lambda whole: whole[:20],
    "zeros": lambda whole: bytes(len(whole)),
    "a zeroed page": lambda whole: whole[:4096] + bytes(4096) + whole[8192:],
    "a flipped bit": lambda whole: whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:],
    "longer": lambda whole: whole + b"x",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_library_is_compiled_again(cache: Path, compiler: Compiler, damage: str) -> None:
    compiler.load()
    [file] = files(cache)
    whole = file.read_bytes()
    damaged = DAMAGES[damage](whole)
    assert damaged != whole
    file.unlink()
    file.write_bytes(damaged)
    file.chmod(0o700)
    compiler.load()
    assert compiler.calls == 2 and files(cache) == [file] and file.read_bytes() != damaged


def test_the_library_of_another_key_is_not_loaded(cache: Path, compiler: Compiler) -> None:
    compiler.load(b"one")
    [one] = files(cache)
    compiler.load(b"other")
    [other] = set(files(cache)) - {one}
    other.unlink()  # a library that is in use must not change
    shutil.copy(one, other)
    compiler.load(b"other")
    assert compiler.calls == 3


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_library_that_others_can_write_is_compiled_again(cache: Path, compiler: Compiler, mode: int) -> None:
    compiler.load()
    [file] = files(cache)
    file.chmod(mode)
    compiler.load()
    assert compiler.calls == 2 and file.stat().st_mode & 0o777 == 0o700


def test_a_link_or_a_pipe_in_the_place_of_a_library_is_replaced(
    cache: Path, tmp_path: Path, compiler: Compiler
) -> None:
    compiler.load()
    [file] = files(cache)
    elsewhere = file.rename(tmp_path / "elsewhere.so")
    kept = elsewhere.read_bytes()
    for plant in (lambda: file.symlink_to(elsewhere), lambda: os.mkfifo(file)):
        file.unlink(missing_ok=True)
        plant()
        compiler.load()
        assert file.is_file() and not file.is_symlink()
    assert compiler.calls == 3 and elsewhere.read_bytes() == kept


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_cache_that_others_can_write_is_not_used(cache: Path, temporary: Path, compiler: Compiler, mode: int) -> None:
    cache.mkdir(parents=True)
    cache.chmod(mode)
    compiler.load()
    assert not files(cache) and len(files(temporary)) == 1
    temporary.chmod(mode)
    assert load_library(b"key", compiler) is None


def test_a_cache_in_a_folder_that_everyone_can_write_is_not_used(
    cache: Path, temporary: Path, compiler: Compiler
) -> None:
    cache.mkdir(parents=True)
    cache.parent.chmod(0o777)
    compiler.load()
    assert not files(cache) and len(files(temporary)) == 1


def test_a_link_in_the_place_of_the_cache_is_not_followed(
    cache: Path, tmp_path: Path, temporary: Path, compiler: Compiler
) -> None:
    cache.parent.mkdir()
    (tmp_path / "others").mkdir()
    cache.symlink_to(tmp_path / "others")
    compiler.load()
    assert not files(tmp_path / "others") and len(files(temporary)) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_what_another_user_owns_is_not_used(cache: Path, temporary: Path, compiler: Compiler) -> None:
    compiler.load()
    [file] = files(cache)
    os.chown(file, 12345, -1)
    compiler.load()
    assert compiler.calls == 2 and file.stat().st_uid == 0
    os.chown(cache, 12345, -1)
    compiler.load()
    assert compiler.calls == 3 and len(files(temporary)) == 1


def test_where_no_cache_can_be_made_the_folder_of_temporary_files_is_used(
    cache: Path, temporary: Path, compiler: Compiler
) -> None:
    cache.parent.write_text("")
    compiler.load()
    assert len(files(temporary)) == 1


def test_a_compiler_may_have_arguments_and_one_that_cannot_be_read_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default = kernels.c_compiler()
    found = shutil.which((default or [""])[0])
    monkeypatch.setenv("CC", f"{found} -m64")
    assert kernels.c_compiler() == [found, "-m64"]
    for unreadable in ('gcc "', "no-such-compiler", "  "):
        monkeypatch.setenv("CC", unreadable)
        assert kernels.c_compiler() in (["cc"], ["gcc"], ["clang"])
