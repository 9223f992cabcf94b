"""The number of cores heeds the affinity mask and a container's CPU quota, and threads on them take short slices."""

import io
import os
import platform
import re
import subprocess
import sys
from typing import Any

import pytest
from joblib.externals.loky.backend import context

from plumage.common.cores import _SCHED_ATTR_CALLS, cores

LINUX = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) if platform.machine() in _SCHED_ATTR_CALLS else ()


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the content of cgroup's cpu.max, on a machine of eight cores."""

    def set_quota(text: str) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
        monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
        monkeypatch.setattr(os.path, "exists", lambda path: path == "/sys/fs/cgroup/cpu.max")
        monkeypatch.setattr(context, "open", lambda path: io.StringIO(text), raising=False)

    return set_quota


@pytest.mark.parametrize(("text", "expected"), [("max 100000\n", 8), ("200000 100000\n", 2), ("50000 100000\n", 1)])
def test_a_containers_quota_limits_the_cores(quota: Any, text: str, expected: int) -> None:
    quota(text)
    assert cores() == expected


def test_the_affinity_mask_limits_the_cores(quota: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quota("max 100000\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 6}, raising=False)
    assert cores() == 3


SLICES = """
import ctypes, os, platform, threading
from pathlib import Path
from plumage.common.cores import _SCHED_ATTR_CALLS, _SchedAttr, take_short_slices

os.nice(5)
done = threading.Event()
threading.Thread(target=done.wait).start()
take_short_slices()
threading.Thread(target=done.wait).start()
for thread in sorted(int(path.name) for path in Path("/proc/self/task").iterdir()):
    attr = _SchedAttr()
    get = _SCHED_ATTR_CALLS[platform.machine()][0]
    assert ctypes.CDLL(None).syscall(get, thread, ctypes.byref(attr), ctypes.sizeof(attr), 0) == 0
    print(attr.sched_policy, attr.sched_nice, attr.sched_runtime)
done.set()
"""


@pytest.mark.skipif(
    sys.platform != "linux" or LINUX < (6, 12),
    reason="Linux before 6.12 has one slice for all, and other systems their own",
)
def test_threads_there_and_new_ones_take_short_slices_and_keep_their_priority() -> None:
    command = [sys.executable, "-c", SLICES]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == ["0 5 250000"] * 3
