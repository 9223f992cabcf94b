"""The C is compiled once per processor; if it can't be compiled, Plumage works without it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import needs_kernels

from plumage.accelerate import kernels

COMPILED = """
import os, sys
from plumage.accelerate import kernels
print(kernels.compiled() is not None, sorted(os.listdir(sys.argv[1])) if os.path.isdir(sys.argv[1]) else [])
"""


def in_a_process(home: Path, **environment: str) -> str:
    variables = {
        **os.environ,
        "XDG_CACHE_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **environment,
    }
    command = [sys.executable, "-c", COMPILED, str(home / "plumage")]
    return subprocess.run(command, env=variables, text=True, check=True, capture_output=True).stdout


@needs_kernels
def test_kernels_are_compiled_once_and_no_other_file_is_left(tmp_path: Path) -> None:
    first = in_a_process(tmp_path)
    assert first.startswith("True ['kernels-") and first.count("kernels-") == 1
    [file] = (tmp_path / "plumage").iterdir()
    made = file.stat().st_mtime_ns
    assert in_a_process(tmp_path) == first and file.stat().st_mtime_ns == made


def test_without_a_compiler_there_are_no_kernels(tmp_path: Path) -> None:
    assert in_a_process(tmp_path, CC=shutil.which("false") or "false") == "False []\n"


def test_a_compiler_that_finds_the_disk_full_is_no_machine_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'fatal error: error writing to x.s: No space left on device' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(OSError, match="No space left on device"):
        kernels.compiled.__wrapped__()
