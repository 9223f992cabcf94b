"""A command works, or ends in one line, whatever a person's environment has to do with other things than photos."""

import getpass
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plumage.common.environment import LAUNCHER, settle_environment

COMMAND = [sys.executable, "-c", "from plumage.cli.main import main; main()", "params"]
ODD = {
    "HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none", "MPLCONFIGDIR": "/proc/none", "TMPDIR": "/none",
    "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "TZ": "Asia/Kathmandu",
    "PYTHONWARNINGS": "error", "PYTHONHASHSEED": "7", "PYTHONOPTIMIZE": "1", "PYTHONDONTWRITEBYTECODE": "1",
    "TERM": "dumb", "NO_COLOR": "1", "FORCE_COLOR": "1", "COLUMNS": "20", "OMP_NUM_THREADS": "many", "CC": "no compiler",
    "RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1", "SLURM_PROCID": "3",
}  # fmt: skip


def plumage(output: Any = subprocess.PIPE, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `plumage params`, which prints dashes that ASCII lacks."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    return subprocess.run(COMMAND, env=variables, stdout=output, stderr=subprocess.PIPE, text=True, encoding="utf-8")


def test_odd_settings_all_at_once_change_nothing_but_letters() -> None:
    done, usual = plumage(**ODD), plumage()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == usual.stdout.encode("ascii", "backslashreplace").decode()


def test_docstrings_are_needed_and_the_line_says_so() -> None:
    done = plumage(PYTHONOPTIMIZE="2")
    assert done.returncode == 1 and done.stderr.startswith("error: PYTHONOPTIMIZE=2") and done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = plumage(full)
    assert (done.returncode, done.stderr) == (
        1,
        "error: the disk is full; make room, then run the same command again\n",
    )


def test_an_output_that_nobody_reads_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = plumage(writer)
    os.close(writer)
    assert done.returncode == 1 and done.stderr == ""


def test_a_user_id_without_a_name_is_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setenv("LOGNAME", "")  # so that it is restored
    settle_environment()
    assert getpass.getuser() == str(os.getuid())


def test_ranks_count_only_where_torchrun_gave_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHER:
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    settle_environment()
    assert all(name in os.environ for name in LAUNCHER)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    settle_environment()
    assert not any(name in os.environ for name in LAUNCHER)


def test_stages_run_in_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/sbin/nologin")
    settle_environment()
    assert os.environ["SHELL"] == "/bin/sh"


def test_a_deleted_working_directory_is_one_line(tmp_path: Path) -> None:
    command = f"cd '{tmp_path}' && mkdir a && cd a && rmdir ../a && exec \"$@\""
    predict = (*COMMAND[:-1], "predict", "x")
    done = subprocess.run(
        ["sh", "-c", command, "sh", *predict],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "the working directory was deleted" in done.stderr


def test_cores_that_libgomp_never_ends_to_read_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, kept in (("bogus", False), ("0 x", False), ("0-3:2 5,7", True), ("", True)):
        monkeypatch.setenv("GOMP_CPU_AFFINITY", cores)
        settle_environment()
        assert ("GOMP_CPU_AFFINITY" in os.environ) == kept
