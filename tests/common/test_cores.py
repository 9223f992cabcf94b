"""The number of cores heeds the affinity mask and a container's CPU quota."""

import io
import os
from typing import Any

import pytest
from joblib.externals.loky.backend import context

from plumage.common.cores import cores


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
